//! Work that may wait: threads that give way to those that sequence and execute, where both share a machine.

/// How much lower the priority of such threads is (`nice`): a thread that has to share a core gets a third of what others get, and all of a core that nobody else wants.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Has the calling thread, and those that it starts from now on, give way to other threads of the machine. On Linux, where threads have priorities of their own; elsewhere
/// nothing changes.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        // A system may forbid it, and the work is done as well as before.
        tracing::debug!(target: "millrace", %error, "a thread keeps its priority");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    #[test]
    fn a_thread_that_gives_way_and_its_own_do_so_and_no_others() {
        let before = getpriority_process(None).unwrap();
        let inside = std::thread::spawn(|| {
            super::give_way();
            let own = std::thread::spawn(|| getpriority_process(None).unwrap());
            (getpriority_process(None).unwrap(), own.join().unwrap())
        });
        let lower = (before + super::NICE).min(19);
        assert_eq!(inside.join().unwrap(), (lower, lower));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
