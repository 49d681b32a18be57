//! SCRAM (RFC 5802, RFC 7677): proves to a broker that we know a password, and lets it prove that it does. It sends nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};

/// More rounds would hold up everything else; brokers make 4,096 to 16,384.
const MAX_ROUNDS: u32 = 1_000_000;

/// The hash that both sides use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// The client's side of one login.
pub(super) struct Scram<'a> {
    hash: Hash,
    password: &'a str,
    nonce: String,
    /// The first message without its head.
    bare: String,
}

/// What the server has to say at last.
pub(super) struct Expected(Vec<u8>);

impl<'a> Scram<'a> {
    /// `nonce` is a text that was never used before: printable, without commas.
    pub(super) fn new(hash: Hash, username: &str, password: &'a str, nonce: String) -> Self {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={username},r={nonce}");
        Self { hash, password, nonce, bare }
    }

    /// The first message.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The second and last message, in answer to the server's first.
    pub(super) fn prove(&self, challenge: &str) -> Result<(String, Expected), String> {
        if let Some(error) = field(challenge, 'e') {
            return Err(error.to_owned());
        }
        let garbled = || "the challenge of the SCRAM login cannot be read".to_owned();
        let nonce = field(challenge, 'r').ok_or_else(garbled)?;
        let salt = field(challenge, 's').and_then(|salt| STANDARD.decode(salt).ok()).ok_or_else(garbled)?;
        let rounds: u32 = field(challenge, 'i').and_then(|rounds| rounds.parse().ok()).ok_or_else(garbled)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the challenge of the SCRAM login is not for us".to_owned());
        }
        if rounds == 0 || rounds > MAX_ROUNDS {
            return Err(format!("the SCRAM login asks for {rounds} rounds"));
        }
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.bare);
        let salted = self.hash.stretch(self.password.as_bytes(), &salt, rounds);
        let client_key = self.hash.mac(&salted, b"Client Key");
        let signature = self.hash.mac(&self.hash.digest(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let expected = self.hash.mac(&self.hash.mac(&salted, b"Server Key"), signed.as_bytes());
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), Expected(expected)))
    }
}

impl Expected {
    /// Whether the server's last message shows that it knows the password too.
    pub(super) fn check(&self, last: &str) -> Result<(), String> {
        if let Some(error) = field(last, 'e') {
            return Err(error.to_owned());
        }
        let signature = field(last, 'v').and_then(|signature| STANDARD.decode(signature).ok());
        if signature.as_deref() == Some(self.0.as_slice()) {
            return Ok(());
        }
        Err("the broker does not know the password: it is not the one it says it is".to_owned())
    }
}

impl Hash {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn mac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
                mac.chain_update(bytes).finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mac = Hmac::<Sha512>::new_from_slice(key).expect("a key of any length will do");
                mac.chain_update(bytes).finalize().into_bytes().to_vec()
            }
        }
    }

    fn stretch(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        let mut stretched = vec![0; if self == Self::Sha256 { 32 } else { 64 }];
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut stretched),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut stretched),
        }
        stretched
    }
}

/// The value of a one-letter field of a message.
fn field(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn sha_256_is_as_in_the_rfc() {
        let scram = Scram::new(Hash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, expected) = scram.prove(challenge).unwrap();
        assert_eq!(last, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        expected.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        for forged in ["v=AAAA", "v=", "", "v=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="] {
            assert!(expected.check(forged).unwrap_err().contains("does not know the password"), "{forged}");
        }
        assert_eq!(expected.check("e=other-error").unwrap_err(), "other-error");
    }

    #[test]
    fn a_challenge_that_is_not_for_us_is_not_answered() {
        let scram = Scram::new(Hash::Sha512, "a,b=c", "pencil", "abc".to_owned());
        assert_eq!(scram.first(), "n,,n=a=2Cb=3Dc,r=abc");
        for challenge in [
            "r=xyz123,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=abc1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            "r=abc1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "r=abc1,s=!,i=4096",
            "r=abc1,i=4096",
            "",
            "e=unknown-user",
        ] {
            assert!(scram.prove(challenge).is_err(), "{challenge}");
        }
    }
}
