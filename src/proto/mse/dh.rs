//! The key exchange: powers in the group of the 768-bit prime of the specification. One power is some 60 microseconds on
//! a fast machine and milliseconds on a small one, so a helper thread computes it.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U192, U768};
use std::fmt;

/// A number of the group as it goes over the wire: big endian, zeros in front.
pub type Key = [u8; 96];

/// The generator.
pub const GENERATOR: Key = {
    let mut two = [0; 96];
    two[95] = 2;
    two
};

const MODULUS: FixedMontyParams<{ U768::LIMBS }> = FixedMontyParams::new_vartime(Odd::<U768>::from_be_hex(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
     020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
     4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563",
));

/// A power that is to be computed.
#[derive(Clone, PartialEq, Eq)]
pub struct Power {
    /// Of what; any number, hostile ones too.
    pub base: Key,
    /// The secret exponent, 160 bits.
    pub secret: [u8; 20],
}

impl Power {
    /// Computes it, in a time that does not depend on the secret.
    pub fn raise(&self) -> Key {
        let mut secret = [0; 24];
        secret[4..].copy_from_slice(&self.secret);
        let base = FixedMontyForm::new(&U768::from_be_slice(&self.base), &MODULUS);
        let power = base.pow_bounded_exp(&U192::from_be_slice(&secret), 160).retrieve();
        let mut key = [0; 96];
        key.copy_from_slice(power.to_be_bytes().as_ref());
        key
    }
}

impl fmt::Debug for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Power")
    }
}
