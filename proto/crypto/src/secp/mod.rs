//! ECDSA on secp256k1, eight signatures at a time.
//!
//! From the bottom: [`field`] and [`scalar`] are the two kinds of integers, [`curve`] the points, [`generator`] what is known of the generator
//! beforehand, and [`batch`] recovers keys with all of them.

pub(crate) mod batch;
pub(crate) mod curve;
pub(crate) mod field;
pub(crate) mod generator;
pub(crate) mod scalar;

pub(crate) use self::{
    batch::{Input, Key, recover},
    generator::prepare,
};
