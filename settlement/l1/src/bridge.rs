//! What users do on L1: depositing, and having messages from L2 delivered.

use std::time::Duration;

use alloy::{
    consensus::{SignableTransaction, TxEip1559},
    eips::Encodable2718,
    primitives::{Address, B256, Bytes, U256, keccak256},
    rpc::types::{Filter, TransactionReceipt},
    sol_types::{SolCall, SolEvent, SolValue},
};
use millrace_proto::{Commitment, MESSAGE_PASSER, Message, MessageSent, TOKEN_BRIDGE};

use crate::{
    L1Client, L1Error, L1Signer, OneCall, RollupContract, RollupEvent, SignError,
    contracts::{BridgedToken, L2TokenBridge, MessagePasser, Rollup, TokenBridge},
    submit_once,
};

/// How long a transaction may take to get into a block.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a message still needs on L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// Nothing was done with it.
    NotRelayed,
    /// It was called, and the call failed: the call can be repeated.
    Failed,
    /// It was delivered.
    Delivered,
}

/// What has to be shown to the contract for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageProof {
    /// The commitment to the batch whose blocks sent it.
    pub commitment: Commitment,
    /// The message.
    pub message: Message,
    /// Its siblings on the way to the commitment's message root, from below.
    pub path: Vec<B256>,
}

impl From<&Message> for Rollup::Message {
    fn from(message: &Message) -> Self {
        Self {
            nonce: message.nonce,
            sender: message.sender,
            target: message.target,
            value: message.value,
            gasLimit: message.gas_limit,
            data: message.data.clone(),
        }
    }
}

impl RollupContract {
    /// Deposits ether to an account on L2, or calls a contract there with it. Returns the deposit's position in the queue.
    ///
    /// # Errors
    /// [`L1Error::Reverted`] if the contract refuses; nothing is paid then.
    pub async fn deposit(
        &self,
        signer: &L1Signer,
        to: Address,
        value: U256,
        call: Option<(u64, Bytes)>,
    ) -> Result<(u64, TransactionReceipt), L1Error> {
        let input = match call {
            None => Rollup::depositETHCall { to }.abi_encode(),
            Some((gas_limit, data)) => {
                Rollup::depositTransactionCall { to, gasLimit: gas_limit, data }.abi_encode()
            }
        };
        self.queue(signer, OneCall { value, ..OneCall::new(self.address(), input) }).await
    }

    /// Deposits tokens to an account on L2, having approved as many as are needed: where fewer were approved before and the token does not
    /// replace an allowance that stands, that is taken back first. Returns the deposit's position in the queue.
    ///
    /// # Errors
    /// [`L1Error::Reverted`] if the token or a contract refuses.
    pub async fn deposit_tokens(
        &self,
        signer: &L1Signer,
        token: Address,
        to: Address,
        amount: U256,
    ) -> Result<(u64, TransactionReceipt), L1Error> {
        let bridge = self.token_bridge().await?;
        self.allow(signer, token, bridge, amount).await?;
        let deposit = TokenBridge::depositCall { token, to, amount };
        self.queue(signer, OneCall::new(bridge, deposit.abi_encode())).await
    }

    /// Lets a spender take at least so many tokens.
    async fn allow(
        &self,
        signer: &L1Signer,
        token: Address,
        spender: Address,
        amount: U256,
    ) -> Result<(), L1Error> {
        let client = self.client();
        // Every token has these of the counterparts' functions.
        let allowance = BridgedToken::allowanceCall { owner: signer.address(), spender };
        let standing = client.call(token, &allowance).await?;
        if standing >= amount {
            return Ok(());
        }
        let approve = async |value| {
            let call = BridgedToken::approveCall { spender, value }.abi_encode();
            submit_once(client, signer, OneCall::new(token, call), PATIENCE).await
        };
        match approve(amount).await {
            // Some tokens (USDT) grant none while another stands. Others grant none of 0, so it is not the first try.
            Err(L1Error::Reverted { .. }) if !standing.is_zero() => {
                approve(U256::ZERO).await?;
                approve(amount).await
            }
            answer => answer,
        }
        .map(drop)
    }

    /// Queues a signed transaction of L2, so that no sequencer can leave it out. Returns its position in the queue.
    ///
    /// # Errors
    /// [`L1Error::Reverted`] if it has too many bytes.
    pub async fn force(
        &self,
        signer: &L1Signer,
        transaction: Bytes,
    ) -> Result<(u64, TransactionReceipt), L1Error> {
        let call = Rollup::forceTransactionCall { transaction };
        self.queue(signer, OneCall::new(self.address(), call.abi_encode())).await
    }

    /// Makes a call that puts an entry into the queue. Returns its position there.
    async fn queue(
        &self,
        signer: &L1Signer,
        call: OneCall,
    ) -> Result<(u64, TransactionReceipt), L1Error> {
        let receipt = submit_once(self.client(), signer, call, PATIENCE).await?;
        let queued = receipt.logs().iter().find_map(|log| {
            if log.address() != self.address() {
                return None;
            }
            let deposit = Rollup::DepositQueued::decode_log(&log.inner).map(|event| event.index);
            deposit
                .or_else(|_| Rollup::TransactionForced::decode_log(&log.inner).map(|e| e.index))
                .ok()
        });
        let index = queued.ok_or_else(|| L1Error::BadAnswer {
            method: "eth_getTransactionReceipt",
            problem: "an entry of the queue without its event".to_owned(),
        })?;
        Ok((index, receipt))
    }

    /// The commitment that stands and covers a block of L2; `None` if there is none yet. The newest are looked at first.
    ///
    /// # Errors
    /// When L1 does not answer, or leaves events out.
    pub async fn commitment_of(&self, block: u64) -> Result<Option<Commitment>, L1Error> {
        let (_, last_block) = self.last_committed().await?;
        if block == 0 || block > last_block {
            return Ok(None);
        }
        let deployed = self.deployed_at().await?;
        let step = self.client().options().log_range.max(1);
        let mut to = self.client().head().await?.number;
        loop {
            let from = to.saturating_sub(step - 1).max(deployed);
            for event in self.events(from, to).await?.into_iter().rev() {
                let RollupEvent::Committed(commitment) = event else { continue };
                if !(commitment.first_block..=commitment.last_block).contains(&block) {
                    continue;
                }
                // A reverted one may be in the way.
                if self.stands(&commitment).await? {
                    return Ok(Some(commitment));
                }
            }
            if from <= deployed {
                return Err(L1Error::Inconsistent(format!(
                    "the contract has committed blocks up to {last_block}, the node has no commitment to block {block}"
                )));
            }
            to = from - 1;
        }
    }

    /// Whether a commitment is on L1 as it is, and was not reverted.
    pub async fn stands(&self, commitment: &Commitment) -> Result<bool, L1Error> {
        let encoded = Rollup::Commitment::from(commitment).abi_encode();
        Ok(self.commitment_hash(commitment.batch).await? == keccak256(encoded))
    }

    /// What a message still needs.
    pub async fn message_state(&self, id: B256) -> Result<MessageState, L1Error> {
        let status = self.client().call(self.address(), &Rollup::messageStatusCall { id }).await?;
        Ok(match status {
            0 => MessageState::NotRelayed,
            1 => MessageState::Failed,
            _ => MessageState::Delivered,
        })
    }

    /// Has a message delivered, or repeats its call if that has failed before.
    ///
    /// # Errors
    /// [`L1Error::Reverted`] if the contract refuses, for example since the commitment is not final yet.
    pub async fn deliver(
        &self,
        signer: &L1Signer,
        proof: &MessageProof,
    ) -> Result<(MessageState, TransactionReceipt), L1Error> {
        let message = Rollup::Message::from(&proof.message);
        let id = proof.message.id();
        let input = match self.message_state(id).await? {
            MessageState::NotRelayed => Rollup::relayMessageCall {
                commitment: (&proof.commitment).into(),
                message,
                proof: proof.path.clone(),
            }
            .abi_encode(),
            MessageState::Failed | MessageState::Delivered => {
                Rollup::retryMessageCall { message }.abi_encode()
            }
        };
        let call = OneCall::new(self.address(), input);
        let receipt = submit_once(self.client(), signer, call, PATIENCE).await?;
        Ok((self.message_state(id).await?, receipt))
    }
}

/// Signs a transaction, and returns its EIP-2718 form.
///
/// # Errors
/// When the signing service does not sign.
pub async fn sign_transaction(signer: &L1Signer, tx: TxEip1559) -> Result<Bytes, SignError> {
    let signature = signer.sign(&tx).await?;
    Ok(tx.into_signed(signature).encoded_2718().into())
}

/// Blocks of L2 whose messages are asked for at once, or fewer where the node refuses that.
const L2_RANGE: u64 = 500;

/// The messages that some blocks of L2 sent, in order, as a node of L2 tells.
///
/// # Errors
/// When it does not answer.
pub async fn messages_in(l2: &L1Client, first: u64, last: u64) -> Result<Vec<Message>, L1Error> {
    let filter = Filter::new().address(MESSAGE_PASSER).event_signature(MessageSent::SIGNATURE_HASH);
    let mut messages = Vec::new();
    let (mut next, mut range) = (first, L2_RANGE);
    while next <= last {
        let to = last.min(next.saturating_add(range - 1));
        match l2.logs(&filter.clone().from_block(next).to_block(to)).await {
            Ok(logs) => {
                messages.extend(logs.iter().filter_map(|log| Message::of_log(&log.inner)));
                next = to + 1;
            }
            // Nodes say in words of their own that so many are too many.
            Err(error) if error.response().is_some() && range > 1 => range = range.div_ceil(2),
            Err(error) => return Err(error),
        }
    }
    Ok(messages)
}

/// What is withdrawn from L2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withdrawal {
    /// Ether, and a call of the recipient with it if there is data.
    Ether {
        /// Wei.
        value: U256,
        /// Gas that the call has on L1, at least.
        gas_limit: u64,
        /// Input of the call.
        data: Bytes,
    },
    /// A token of L1, of which L2 has the counterpart.
    Token {
        /// The token's address on L1.
        token: Address,
        /// In the token's units.
        amount: U256,
    },
}

/// Sends a withdrawal on L2 to a recipient on L1. Returns the messages that the transaction sent, and its receipt.
///
/// # Errors
/// [`L1Error::Reverted`] if a contract on L2 refuses.
pub async fn withdraw(
    l2: &L1Client,
    signer: &L1Signer,
    to: Address,
    withdrawal: Withdrawal,
) -> Result<(Vec<Message>, TransactionReceipt), L1Error> {
    let call = match withdrawal {
        Withdrawal::Ether { value, gas_limit, data } => {
            let send = MessagePasser::sendMessageCall { target: to, gasLimit: gas_limit, data };
            OneCall { value, ..OneCall::new(MESSAGE_PASSER, send.abi_encode()) }
        }
        Withdrawal::Token { token, amount } => {
            let withdraw = L2TokenBridge::withdrawCall { l1Token: token, to, amount };
            OneCall::new(TOKEN_BRIDGE, withdraw.abi_encode())
        }
    };
    let receipt = submit_once(l2, signer, call, PATIENCE).await?;
    let sent = receipt.logs().iter().filter_map(|log| Message::of_log(&log.inner)).collect();
    Ok((sent, receipt))
}
