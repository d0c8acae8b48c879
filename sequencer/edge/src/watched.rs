//! What is read from files, and again when they change.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::error::EdgeError;

/// How often the files are looked at, while somebody asks.
const LOOK: Duration = Duration::from_secs(5);

/// What some files hold. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Watched<T>(Arc<Inner<T>>);

type Load<T> = Box<dyn Fn() -> Result<T, EdgeError> + Send + Sync>;

struct Inner<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: Arc<T>,
    stamps: Vec<Option<SystemTime>>,
    looked: Instant,
    looking: bool,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Inner<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files for the first time.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, EdgeError> + Send + Sync + 'static,
    ) -> Result<Self, EdgeError> {
        // Before the files, so that a change in between is seen at the next look.
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        let state = State { value, stamps, looked: Instant::now(), looking: false };
        Ok(Self(Arc::new(Inner { files, load: Box::new(load), state: Mutex::new(state) })))
    }

    /// What they held at the last look, which may begin another one beside the caller.
    pub(crate) fn current(&self) -> Arc<T> {
        let mut state = self.0.state.lock();
        if !state.looking && state.looked.elapsed() >= LOOK {
            state.looking = true;
            let inner = self.0.clone();
            // Has nothing to return, and ends with the read of some small files.
            tokio::task::spawn_blocking(move || inner.look());
        }
        state.value.clone()
    }
}

impl<T> Inner<T> {
    fn look(&self) {
        let stamps = stamps(&self.files);
        let changed = stamps != self.state.lock().stamps;
        let loaded = changed.then(|| (self.load)());
        let mut state = self.state.lock();
        match loaded {
            Some(Ok(value)) => {
                state.value = Arc::new(value);
                info!(target: "millrace::edge", files = ?self.files, "read again");
            }
            Some(Err(error)) => {
                warn!(target: "millrace::edge", %error, "changed files are not used: what was read before stays");
            }
            None => {}
        }
        // Also of what was of no use, so that it is said once.
        state.stamps = stamps;
        state.looked = Instant::now();
        state.looking = false;
    }
}

/// When each was last written; `None` for one that is not there.
fn stamps(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|file| file.metadata().and_then(|data| data.modified()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let write = |text: &str, age: u64| {
            std::fs::write(&path, text).unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        write("1", 30);
        let file = path.clone();
        let watched = Watched::new(vec![path.clone()], move || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.parse::<u32>().map_err(|_| EdgeError::NoToken { path: file.clone() })
        })
        .unwrap();
        let look = async || {
            tokio::time::advance(LOOK).await;
            watched.current();
            while watched.0.state.lock().looking {
                tokio::task::yield_now().await;
            }
            *watched.current()
        };
        assert_eq!(*watched.current(), 1);
        write("2", 20);
        assert_eq!(*watched.current(), 1);
        assert_eq!(look().await, 2);
        write("broken", 10);
        assert_eq!(look().await, 2);
        write("3", 0);
        assert_eq!(look().await, 3);
    }
}
