//! What is known of a call by its method.

/// Methods that end when the chain has come so far, or never.
const WAITING: [&str; 8] = [
    "/millrace.v1.Sequencer/SubmitTransaction",
    "/millrace.v1.Sequencer/SubmitTransactions",
    "/millrace.v1.Sequencer/WatchTransaction",
    "/millrace.v1.Sequencer/SubscribeBlocks",
    "/millrace.v1.Sequencer/SubscribePreconfirmations",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Methods whose client sends messages when it likes.
const STREAMING: [&str; 3] = [
    "/millrace.v1.Sequencer/SubmitTransactions",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Whether a call has no deadline but its client's.
pub(super) fn waits(path: &str) -> bool {
    WAITING.contains(&path)
}

/// Whether a client may leave a call without a message for as long as it likes.
pub(super) fn streams(path: &str) -> bool {
    STREAMING.contains(&path)
}

/// Whether a call needs no token: load balancers ask whether the service is well, and have none.
pub(super) fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/")
}
