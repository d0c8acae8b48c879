//! Amounts as people write them.

use alloy::primitives::{Address, U256, utils::parse_units};
use eyre::{Result, WrapErr, ensure};
use millrace_l1::{L1Client, contracts::BridgedToken};

/// Wei of an amount of ether, such as `1.5`.
pub(super) fn ether(text: &str) -> Result<U256> {
    units(text, 18)
}

/// Units of an amount of a token, whose decimal places are asked of its contract.
pub(super) async fn tokens(client: &L1Client, token: Address, text: &str) -> Result<U256> {
    // Every token with decimal places has this function of the counterparts.
    let decimals = client.call(token, &BridgedToken::decimalsCall {}).await;
    units(text, decimals.wrap_err_with(|| format!("is there a token at {token}?"))?)
}

fn units(text: &str, decimals: u8) -> Result<U256> {
    let problem = || format!("{text:?} is no amount with at most {decimals} decimal places");
    // The parser reads nothing as 0, cuts what does not fit, and takes no decimal places beyond 77.
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(digits(whole) && digits(places), problem());
    ensure!(places == "0" || places.len() <= usize::from(decimals), problem());
    Ok(parse_units(text, decimals).wrap_err_with(problem)?.get_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        assert_eq!(ether("1.5").unwrap(), U256::from(1_500_000_000_000_000_000u64));
        assert_eq!(ether("0.000000000000000001").unwrap(), U256::from(1));
        assert_eq!(units("7", 0).unwrap(), U256::from(7));
        for wrong in ["", "-1", "1.0000000000000000001", "ether", "0x10", "1e18", ".", "1.", ".5"] {
            assert!(ether(wrong).is_err(), "{wrong}");
        }
    }
}
