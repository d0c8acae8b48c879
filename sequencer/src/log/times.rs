//! When a record's transactions were accepted, as bytes: a base in milliseconds, and how much earlier each was, which is a byte for most.

use std::time::Duration;

use super::codec::{CodecError, Reader, Writer};

/// Unix milliseconds.
pub(super) fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

/// Writes times, of which some may not be known: their number, then the latest, and for each 0 or by how much it is earlier, plus 1. Where none is known, the number 0.
pub(super) fn write(out: &mut Writer, times: &[Option<Duration>]) {
    let Some(latest) = times.iter().flatten().copied().map(millis).max() else {
        out.len(0);
        return;
    };
    out.len(times.len());
    out.u64(latest);
    for at in times {
        out.varint(at.map_or(0, |at| (latest - millis(at)).saturating_add(1)));
    }
}

/// Reads what [`write`] wrote, and nothing else.
pub(super) fn read(input: &mut Reader) -> Result<Vec<Option<Duration>>, CodecError> {
    let count = input.count(1)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let latest = input.u64()?;
    let mut times = Vec::with_capacity(count);
    let mut is_latest = false;
    for _ in 0..count {
        let at = match input.varint()?.checked_sub(1) {
            None => None,
            Some(earlier) => {
                is_latest |= earlier == 0;
                let at = latest.checked_sub(earlier).ok_or(CodecError::Times)?;
                Some(Duration::from_millis(at))
            }
        };
        times.push(at);
    }
    if is_latest { Ok(times) } else { Err(CodecError::Times) }
}
