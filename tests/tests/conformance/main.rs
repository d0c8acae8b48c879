//! One suite over both transports: a caller cannot tell a service in its own process from one behind gRPC.

mod chain;
mod executor;
mod refusals;
mod sequencer;
mod stack;

/// Runs each case of a suite on a fresh service, called directly and through gRPC.
macro_rules! over_both_transports {
    ($stack:ident: $($suite:ident::$case:ident),* $(,)?) => {
        mod direct {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() -> eyre::Result<()> {
                let stack = crate::stack::$stack::start(crate::stack::Transport::Direct).await?;
                crate::$suite::$case(&stack).await?;
                stack.stop().await
            })*
        }

        mod grpc {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() -> eyre::Result<()> {
                let stack = crate::stack::$stack::start(crate::stack::Transport::Grpc).await?;
                crate::$suite::$case(&stack).await?;
                stack.stop().await
            })*
        }
    };
}

mod executors {
    over_both_transports!(ExecutorStack:
        executor::builds_blocks,
        executor::shows_the_open_block,
        executor::tells_what_became_of_each_transaction,
        executor::discards_what_is_not_sealed,
        executor::refuses_blocks_that_do_not_follow_the_head,
        executor::answers_for_state,
        executor::runs_calls,
        executor::finds_logs,
        executor::subscriptions_resume_and_follow,
    );
}

mod sequencers {
    over_both_transports!(SequencerStack:
        sequencer::a_transaction_goes_through_its_life,
        sequencer::many_are_taken_in_order,
        sequencer::a_later_nonce_waits_for_the_earlier,
        sequencer::a_replacement_drops_what_it_replaces,
        sequencer::what_was_never_accepted_is_unknown,
        sequencer::says_how_it_is,
        refusals::bad_input_is_refused_by_reason,
        refusals::what_depends_on_the_account_is_refused_by_reason,
    );
}
