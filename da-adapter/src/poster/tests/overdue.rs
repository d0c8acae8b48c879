//! The sequencing window has ended.

use super::*;

impl Fixture {
    /// L1's next block makes so many entries overdue.
    fn overdue(&mut self, count: u64) {
        self.contract.change(|contract| contract.overdue = count);
        self.poster.window_seen = None;
    }

    fn refused(&self) -> Option<RefusedBlocks> {
        self.poster.refusal.borrow().map(|refusal| refusal.blocks)
    }

    fn posted(&self) -> usize {
        self.contract.state.lock().batches.len()
    }
}

#[tokio::test]
async fn what_l1_takes_no_more_is_closed_again_once_and_then_told() {
    let mut fixture = Fixture::new();
    fixture.contract.change(|contract| contract.deposits = 5);
    let executor = TestExecutor::new(fixture.chain.head());
    fixture.poster.executor = Arc::new(TestExecutorHandle(executor.clone()));
    executor.push(fixture.close(0));
    fixture.settle().await;
    let posted = fixture.outbox.cursor();
    let late = [fixture.close(1), fixture.close(2)];
    late.iter().for_each(|block| executor.push(block.clone()));

    // A batch that reaches further may do.
    fixture.overdue(3);
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!(fixture.outbox.cursor(), posted);
    fixture.close_blocks(&late);
    fixture.settle().await;
    assert_eq!((fixture.posted(), fixture.refused()), (2, None));

    // If none does, the blocks have to go.
    let short = fixture.close(0);
    executor.push(short.clone());
    fixture.overdue(4);
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    fixture.close_blocks(slice::from_ref(&short));
    fixture.poster.step().await.unwrap_err();
    let (after, last) = (late[1].number(), short.num_hash());
    let refused = Some(RefusedBlocks { after, last, due: 4 });
    assert_eq!(fixture.refused(), refused);
    // What is due stays the same for as long as the batch does.
    fixture.overdue(5);
    fixture.poster.step().await.unwrap_err();
    assert_eq!((fixture.posted(), fixture.refused()), (2, refused));

    // Others are in their place.
    let (before, cursor) = (fixture.outbox.cursor().unwrap(), late[1].num_hash());
    let cursor = Cursor {
        batch: 2,
        block: cursor,
        deposits_end: before.deposits_end,
        deposits_hash: before.deposits_hash,
    };
    fixture.outbox.unwind(before, cursor).unwrap();
    fixture.poster.step().await.unwrap();
    assert_eq!(fixture.refused(), None);
    fixture.chain.follow(&late[1].header);
    let first = fixture.close(1);
    executor.unwind(after);
    executor.push(first);
    // And it lasts until more is overdue: a batch that reaches further may do again.
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!((fixture.outbox.cursor().unwrap().batch, fixture.refused()), (2, None));
    fixture.chain.follow(&late[1].header);
    fixture.close(1);
    fixture.settle().await;
    assert_eq!(fixture.posted(), 3);
}

/// Else they would have to go once more at the end of the next window. So it is for whatever else keeps batches from being posted.
#[tokio::test]
async fn blocks_stay_for_as_long_as_nothing_can_be_posted() {
    let server = AltDaServer::start().await.unwrap();
    let mut fixture = Fixture::new();
    let alt_da = AltDaBackend::new(&AltDaConfig::at(server.url())).unwrap();
    fixture.poster = poster_to(&fixture.outbox, &fixture.contract, vec![Arc::new(alt_da)]);
    let executor = TestExecutor::new(fixture.chain.head());
    fixture.poster.executor = Arc::new(TestExecutorHandle(executor.clone()));
    server.set_fault(Some(AltDaFault::Status(500)));
    executor.push(fixture.close(0));
    let cursor = fixture.outbox.cursor();
    fixture.poster.step().await.unwrap_err();
    fixture.contract.change(|contract| contract.deposits = 1);
    fixture.overdue(1);
    for _ in 0..3 {
        fixture.poster.step().await.unwrap_err();
    }
    assert_eq!((fixture.outbox.cursor(), fixture.refused()), (cursor, None));

    server.set_fault(None);
    assert_eq!(fixture.poster.step().await.unwrap(), Step::Posted);
    assert_eq!(fixture.outbox.cursor().unwrap().batch, 0, "it is closed again");
}
