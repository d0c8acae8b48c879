//! What every backend promises, whatever is behind it.

use millrace_proto::{DaReadError, DaReader};

use super::*;
use crate::reader::MultiReader;

/// What is behind a backend does this wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers everything with this HTTP status.
    Status(u16),
    /// Takes everything, and has nothing.
    Forgets,
    /// Gives back something else.
    Lies,
}

/// A backend, and what is behind it, as far as a test can break it.
#[async_trait]
pub(super) trait Layer: Sync {
    fn backend(&self) -> &dyn DaBackend;

    /// What a reader needs of it.
    fn sources(&self) -> DaSources;

    /// L1 takes the posting transaction; returns its record of the batch.
    async fn post(&self, digest: B256, prepared: Prepared) -> PostedBatch {
        assert!(prepared.blobs.is_empty(), "blobs are paid for");
        posted(self.backend().kind(), digest, prepared.da_pointer)
    }

    /// From now on, what is behind it does this wrong, `None` for nothing. `false` if it cannot.
    fn breaks(&self, fault: Option<Fault>) -> bool;

    /// Whether what is behind it is asked for each batch before it is posted, and may fail as it is told.
    fn takes_batches(&self) -> bool {
        false
    }

    /// The same backend where nothing answers, if anything could.
    fn nowhere(&self) -> Option<Box<dyn DaBackend>> {
        None
    }

    /// Records of batches that there are not, whoever has the bytes: made from a good one.
    fn invalid(&self, good: &PostedBatch) -> Vec<PostedBatch>;
}

/// What a [`BackendError`] tells to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    Smaller(usize),
    Retry,
    UseNext,
    Fatal,
}

impl From<&BackendError> for Advice {
    fn from(error: &BackendError) -> Self {
        match error {
            BackendError::TooLarge { max, .. } => Self::Smaller(*max),
            BackendError::Retry(_) => Self::Retry,
            BackendError::UseNext(_) => Self::UseNext,
            BackendError::Fatal(_) => Self::Fatal,
        }
    }
}

/// The suite.
pub(super) async fn conforms(layer: &dyn Layer) {
    gives_back_what_it_took(layer).await;
    says_what_it_costs_and_how_much_it_takes(layer).await;
    checks_what_it_reads(layer).await;
    if layer.takes_batches() {
        says_what_its_failures_mean(layer).await;
        knows_what_is_there(layer).await;
    }
    if let Some(backend) = layer.nowhere() {
        waits_for_a_layer_that_is_away(&*backend).await;
    }
}

async fn gives_back_what_it_took(layer: &dyn Layer) {
    let backend = layer.backend();
    let max = backend.max_size();
    let reader = MultiReader::new(layer.sources());
    for size in [1, 31, 5_000, 130_000, max.min(900_000)] {
        let request = request(noise(size, size as u64));
        let first = backend.submit(request.clone()).await.unwrap();
        // Again, as after a restart between the two steps of posting.
        let again = backend.submit(request.clone()).await.unwrap();
        match backend.place_of(request.digest) {
            Some(place) => assert_eq!([&first.da_pointer, &again.da_pointer], [&place; 2]),
            None if !layer.takes_batches() => assert_eq!(first, again),
            None => {}
        }
        for prepared in [first, again] {
            let record = layer.post(request.digest, prepared).await;
            assert_eq!(backend.fetch(&record).await.unwrap(), request.data);
            assert_eq!(reader.read(&record).await.unwrap(), request.data);
        }
    }
}

async fn says_what_it_costs_and_how_much_it_takes(layer: &dyn Layer) {
    let backend = layer.backend();
    let max = backend.max_size();
    assert!(max >= 130_000, "{max}");
    let market = Market { base_fee: 9, tip: 1, blob_base_fee: 3 };
    let cost = |size| backend.l1_cost(size, &market);
    assert!(cost(1) >= U256::from(900_000) && cost(max) >= cost(1), "a transaction at least");
    let error = backend.submit(request(vec![7; max + 1].into())).await.unwrap_err();
    assert!(
        matches!(error, BackendError::TooLarge { size, max: limit } if size == max + 1 && limit == max),
        "{error}"
    );
}

async fn says_what_its_failures_mean(layer: &dyn Layer) {
    let expected = [
        (Fault::Status(413), Advice::Smaller(999)),
        (Fault::Status(408), Advice::Retry),
        (Fault::Status(429), Advice::Retry),
        (Fault::Status(500), Advice::Retry),
        (Fault::Status(502), Advice::Retry),
        (Fault::Status(504), Advice::Retry),
        (Fault::Status(400), Advice::UseNext),
        (Fault::Status(401), Advice::UseNext),
        (Fault::Status(403), Advice::UseNext),
        (Fault::Status(404), Advice::Fatal),
        (Fault::Forgets, Advice::Retry),
        (Fault::Lies, Advice::UseNext),
    ];
    let submit = async |seed| layer.backend().submit(request(noise(1_000, seed))).await;
    for (seed, (fault, advice)) in (100..).zip(expected) {
        assert!(layer.breaks(Some(fault)));
        let result = submit(seed).await;
        assert!(layer.breaks(None));
        let error = result.expect_err("it is broken");
        assert_eq!(Advice::from(&error), advice, "{fault:?}: {error}");
    }
    submit(99).await.expect("nothing is wrong any more");
}

async fn knows_what_is_there(layer: &dyn Layer) {
    let backend = layer.backend();
    let request = request(noise(1_000, 50));
    let place = backend.submit(request.clone()).await.unwrap().da_pointer;
    let status = async |fault| {
        assert!(layer.breaks(fault));
        let status = backend.status(request.digest, &place).await;
        assert!(layer.breaks(None));
        status
    };
    assert_eq!(status(None).await.unwrap(), Availability::Available);
    for fault in [Fault::Forgets, Fault::Lies] {
        let status = status(Some(fault)).await.unwrap();
        assert_eq!(status, Availability::Missing, "{fault:?}");
    }
    for fault in [Fault::Status(500), Fault::Status(403)] {
        let error = status(Some(fault)).await.unwrap_err();
        assert_eq!(Advice::from(&error), Advice::Retry, "{fault:?}: {error}");
    }
    assert_eq!(status(None).await.unwrap(), Availability::Available);
}

async fn checks_what_it_reads(layer: &dyn Layer) {
    let backend = layer.backend();
    let request = request(noise(1_000, 1));
    let prepared = backend.submit(request.clone()).await.unwrap();
    let record = layer.post(request.digest, prepared).await;
    for fault in [Fault::Status(500), Fault::Status(403), Fault::Forgets, Fault::Lies] {
        if !layer.breaks(Some(fault)) {
            continue;
        }
        let error = backend.fetch(&record).await.expect_err("it is broken");
        assert!(layer.breaks(None));
        let is_right = match fault {
            Fault::Lies => matches!(error, DaReadError::Mismatch { batch: 1, .. }),
            _ => matches!(error, DaReadError::Unavailable { batch: 1, .. }),
        };
        assert!(is_right, "{fault:?}: {error}");
    }
    let invalid = layer.invalid(&record);
    assert!(!invalid.is_empty());
    for record in invalid {
        let error = backend.fetch(&record).await.expect_err("nobody can read it");
        assert!(matches!(error, DaReadError::Invalid { batch: 1, .. }), "{record:?}: {error}");
    }
    assert_eq!(backend.fetch(&record).await.unwrap(), request.data);
}

async fn waits_for_a_layer_that_is_away(backend: &dyn DaBackend) {
    let error = backend.submit(request(noise(10, 1))).await.unwrap_err();
    assert_eq!(Advice::from(&error), Advice::Retry, "{error}");
}
