//! What is sent: signed ahead of time, so that signing takes nothing from what is measured.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::Encodable2718,
    primitives::{Address, B256, Bytes, Signature, TxHash, U256, keccak256},
    signers::local::PrivateKeySigner,
};
use eyre::{Result, WrapErr, eyre};
use millrace_workload::Artifacts;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::prelude::*;
use secp256k1::{Message, SECP256K1, SecretKey};

use super::{Kind, calls::Call};

/// Pools that swaps are spread over.
const POOLS: usize = 16;
/// The tip, wei per gas: enough to be taken, and nothing that orders by it.
const TIP: u128 = 1;
/// What an account needs besides its fees: enough for what it sends to others.
const POCKET: u128 = 1_000_000_000_000;

/// A signed transaction.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    /// EIP-2718 bytes.
    pub(super) raw: Bytes,
    pub(super) hash: TxHash,
    /// The sender's number. Those of one sender are sent on one connection, in order.
    pub(super) sender: u32,
}

/// All that is sent, in order.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) chain_id: u64,
    /// Steps, each of which is in blocks before the next begins.
    pub(super) setup: Vec<Vec<Signed>>,
    pub(super) load: Vec<Signed>,
}

/// What a plan is made of.
#[derive(Debug)]
pub(super) struct Brief<'a> {
    pub(super) chain_id: u64,
    pub(super) kind: Kind,
    pub(super) accounts: &'a Accounts,
    pub(super) transactions: usize,
    pub(super) seed: u64,
    /// Wei per gas.
    pub(super) max_fee: u128,
    /// Needed for tokens and swaps.
    pub(super) artifacts: Option<&'a Artifacts>,
}

/// Who pays, who sends, and the next nonce of each.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) payer: Account,
    pub(super) senders: Vec<Account>,
}

/// A key, and its account's next nonce.
#[derive(Debug, Clone)]
pub(super) struct Account {
    key: SecretKey,
    pub(super) address: Address,
    pub(super) nonce: u64,
}

/// Contracts, as far as the kind needs them.
#[derive(Debug, Default)]
struct Contracts {
    counter: Address,
    token: Address,
    router: Address,
    pairs: Vec<[Address; 2]>,
}

impl Accounts {
    /// The payer, and senders that follow from its key and a seed; all nonces are zero.
    pub(super) fn new(payer: &PrivateKeySigner, senders: u32, seed: u64) -> Result<Self> {
        let secret = payer.to_bytes();
        // Nobody else can make them: they hold ether.
        let sender = |index: u32| {
            let text = format!("millrace load, seed {seed}, sender {index}");
            Account::new(keccak256([secret.as_slice(), text.as_bytes()].concat()))
        };
        let payer = Account::new(secret)?;
        let senders = (0..senders).into_par_iter().map(sender).collect::<Result<_>>()?;
        Ok(Self { payer, senders })
    }
}

impl Account {
    fn new(key: B256) -> Result<Self> {
        let key = SecretKey::from_byte_array(key.0).wrap_err("not a key")?;
        let point = key.public_key(SECP256K1).serialize_uncompressed();
        Ok(Self { key, address: Address::from_raw_public_key(&point[1..]), nonce: 0 })
    }

    fn sign(&self, tx: TxEip1559) -> Result<(Bytes, TxHash)> {
        let message = Message::from_digest(tx.signature_hash().0);
        let signature = SECP256K1.sign_ecdsa_recoverable(message, &self.key);
        let (parity, bytes) = signature.serialize_compact();
        let (r, s) = bytes.split_at(32);
        let parity = i32::from(parity) == 1;
        let signature = Signature::new(U256::from_be_slice(r), U256::from_be_slice(s), parity);
        let signed = TxEnvelope::from(tx.into_signed(signature));
        Ok((signed.encoded_2718().into(), *signed.tx_hash()))
    }
}

/// A transaction that is not signed yet.
struct Draft {
    /// `None` is the payer.
    sender: Option<u32>,
    nonce: u64,
    call: Call,
}

impl Plan {
    /// Decides what is sent, and signs it, on all threads.
    pub(super) fn make(brief: &Brief<'_>) -> Result<Self> {
        let Brief { accounts, kind, max_fee, .. } = *brief;
        let mut contracts = Contracts::default();
        let mut payer = Drafts::new(accounts.payer.nonce);
        let mut random = StdRng::seed_from_u64(brief.seed);
        contracts.deploy(brief, &mut payer)?;

        let mut nonces: Vec<u64> = accounts.senders.iter().map(|sender| sender.nonce).collect();
        let mut needs = vec![U256::from(POCKET); nonces.len()];
        let mut next = |sender: usize, call: Call| {
            needs[sender] += call.most_cost(max_fee);
            let nonce = nonces[sender];
            nonces[sender] += 1;
            Draft { sender: Some(sender as u32), nonce, call }
        };
        let approvals: Vec<Draft> = if contracts.pairs.is_empty() {
            Vec::new()
        } else {
            let approve = |(sender, pair): (usize, &[Address; 2])| {
                next(sender, Call::approve(pair[0], contracts.router))
            };
            (0..accounts.senders.len()).zip(contracts.pairs.iter().cycle()).map(approve).collect()
        };
        let load: Vec<Draft> = (0..brief.transactions)
            .map(|index| {
                let sender = index % accounts.senders.len();
                let call = contracts.call(kind, sender, &accounts.senders, &mut random);
                next(sender, call)
            })
            .collect();
        for (index, need) in needs.into_iter().enumerate() {
            let sender = accounts.senders[index].address;
            payer.push(Call::pay(sender, need));
            let tokens = U256::from(10_u128.pow(24));
            if contracts.token != Address::ZERO {
                payer.push(Call::send_tokens(contracts.token, sender, tokens));
            }
            if !contracts.pairs.is_empty() {
                let token = contracts.pairs[index % contracts.pairs.len()][0];
                payer.push(Call::send_tokens(token, sender, tokens));
            }
        }
        let steps = [payer.drafts, approvals].into_iter().filter(|step| !step.is_empty());
        let sign = |draft| brief.sign(draft);
        Ok(Self {
            chain_id: brief.chain_id,
            setup: steps
                .map(|step| step.into_par_iter().map(sign).collect())
                .collect::<Result<_>>()?,
            load: load.into_par_iter().map(sign).collect::<Result<_>>()?,
        })
    }
}

impl Brief<'_> {
    fn sign(&self, draft: Draft) -> Result<Signed> {
        let Draft { sender, nonce, call: Call { to, value, gas, input } } = draft;
        let account = match sender {
            Some(index) => &self.accounts.senders[index as usize],
            None => &self.accounts.payer,
        };
        let (raw, hash) = account.sign(TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: self.max_fee,
            max_priority_fee_per_gas: TIP.min(self.max_fee),
            to,
            value,
            input,
            ..TxEip1559::default()
        })?;
        Ok(Signed { raw, hash, sender: sender.unwrap_or(0) })
    }
}

/// The payer's transactions, in order.
struct Drafts {
    nonce: u64,
    drafts: Vec<Draft>,
}

impl Drafts {
    const fn new(nonce: u64) -> Self {
        Self { nonce, drafts: Vec::new() }
    }

    fn push(&mut self, call: Call) {
        self.drafts.push(Draft { sender: None, nonce: self.nonce, call });
        self.nonce += 1;
    }

    /// Gives the contract's address.
    fn deploy(&mut self, payer: Address, call: Call) -> Address {
        let address = payer.create(self.nonce);
        self.push(call);
        address
    }
}

impl Contracts {
    fn deploy(&mut self, brief: &Brief<'_>, drafts: &mut Drafts) -> Result<()> {
        let payer = brief.accounts.payer.address;
        let (tokens, swaps) = match brief.kind {
            Kind::Transfer => (false, false),
            Kind::Conflict => {
                self.counter = drafts.deploy(payer, Call::deploy_counter());
                (false, false)
            }
            Kind::Erc20 => (true, false),
            Kind::Swap => (false, true),
            Kind::Mixed => (true, true),
        };
        if !tokens && !swaps {
            return Ok(());
        }
        let artifacts = brief.artifacts.ok_or_else(|| eyre!("contracts are needed"))?;
        if tokens {
            self.token = drafts.deploy(payer, Call::deploy_token(artifacts, payer));
        }
        if swaps {
            let weth = drafts.deploy(payer, Call::deploy_weth(artifacts));
            let factory = drafts.deploy(payer, Call::deploy_factory(artifacts, payer));
            self.router = drafts.deploy(payer, Call::deploy_router(artifacts, factory, weth));
            for _ in 0..POOLS.min(brief.accounts.senders.len()) {
                let mut token = || drafts.deploy(payer, Call::deploy_token(artifacts, payer));
                let pair = [token(), token()];
                pair.into_iter().for_each(|token| drafts.push(Call::approve(token, self.router)));
                drafts.push(Call::add_liquidity(self.router, pair, payer));
                self.pairs.push(pair);
            }
        }
        Ok(())
    }

    /// What a sender does next.
    fn call(&self, kind: Kind, sender: usize, senders: &[Account], random: &mut StdRng) -> Call {
        let kind = match kind {
            Kind::Mixed => match random.random_range(0..10) {
                0..4 => Kind::Transfer,
                4..8 => Kind::Erc20,
                _ => Kind::Swap,
            },
            kind => kind,
        };
        let mut other = || senders[random.random_range(0..senders.len())].address;
        match kind {
            Kind::Transfer => Call::pay(other(), U256::from(1)),
            Kind::Erc20 => Call::send_tokens(self.token, other(), U256::from(1)),
            Kind::Conflict => Call::count(self.counter),
            Kind::Swap | Kind::Mixed => {
                let pair = self.pairs[sender % self.pairs.len()];
                let amount = random.random_range(1_000..1_000_000_u64);
                Call::swap(self.router, pair, senders[sender].address, U256::from(amount))
            }
        }
    }
}
