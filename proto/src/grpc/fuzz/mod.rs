//! What any bytes are held to that come as a message. `proto/fuzz` runs it, and a test over its seeds and what is near them.
//!
//! The first byte says which of [`MESSAGES`] the rest is read as. Whatever the rest is, it gives a value or an error; a value, written again and
//! read again, is the same value.

mod errors;
mod messages;

#[cfg(test)]
mod tests;

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::messages::MESSAGES;
use crate::{
    grpc::convert::{Parsed, from_json, to_json},
    service::TransportError,
};

/// Texts in errors are cut where they are longer, so that what has one may change when it is written.
const SHORT: usize = 900;

/// Reads bytes as the message that the first of them says. Whether they are one that makes sense.
///
/// # Panics
/// When what came of it is not what it has to be.
pub fn any_message(bytes: &[u8]) -> bool {
    let Some((selector, rest)) = bytes.split_first() else { return false };
    let (_, check) = MESSAGES[usize::from(*selector) % MESSAGES.len()];
    check(rest)
}

/// A message that decodes encodes to one that is equal.
fn decoded<M: Message + Default + Debug + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(Bytes::copy_from_slice(bytes)).ok()?;
    let again = M::decode(Bytes::from(message.encode_to_vec()));
    assert_eq!(again.as_ref(), Ok(&message), "encoded and decoded");
    Some(message)
}

/// What is only read.
fn reads<M, T>(bytes: &[u8], parse: impl Fn(M) -> Parsed<T>) -> bool
where
    M: Message + Default + Debug + PartialEq,
{
    decoded(bytes).is_some_and(|message| parse(message).is_ok())
}

/// What is parsed, written and parsed again is the same.
fn round_trips<M, T>(bytes: &[u8], parse: impl Fn(M) -> Parsed<T>, write: impl Fn(T) -> M) -> bool
where
    M: Message + Default + Debug + PartialEq + Clone,
    T: Clone + Debug + PartialEq,
{
    let Some(Ok(value)) = decoded(bytes).map(&parse) else { return false };
    let written = write(value.clone());
    let again = parse(written.clone()).unwrap_or_else(|error| panic!("{error}: {written:?}"));
    if bytes.len() < SHORT {
        assert_eq!(again, value);
    }
    assert_eq!(write(again), written);
    true
}

/// The same of what converts.
fn converts<M, T>(bytes: &[u8]) -> bool
where
    M: Message + Default + Debug + PartialEq + Clone + From<T>,
    T: Clone + Debug + PartialEq + TryFrom<M, Error = TransportError>,
{
    round_trips(bytes, T::try_from, M::from)
}

/// JSON that is read, written and read again is the same.
fn json_round_trips<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> bool {
    let json = |value: &T| -> Value {
        let text = to_json("json", value).unwrap_or_else(|error| panic!("{error}"));
        from_json("json", &text).unwrap_or_else(|error| panic!("{error}"))
    };
    let Ok(value) = from_json::<T>("json", bytes) else { return false };
    let written = json(&value);
    let again = serde_json::from_value(written.clone());
    let again: T = again.unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(json(&again), written);
    true
}
