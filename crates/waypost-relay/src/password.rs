//! Passwords of SMTP AUTH: parsing, checking and making their hashes (D6).

use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;
use std::str::FromStr;

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use pbkdf2::Pbkdf2;
use scrypt::Scrypt;

/// The longest password that is hashed, in octets; a longer one is wrong without a look.
pub const MAX_PASSWORD: usize = 1024;

/// 256 MiB: what one check may take of memory, in KiB.
const MAX_MEMORY: u32 = 256 * 1024;
const MAX_PASSES: u32 = 32;
const MAX_LANES: u32 = 16;
/// Some five times what is advised for PBKDF2 with SHA-256 today.
const MAX_ROUNDS: u32 = 3_000_000;

/// A password's hash: a PHC string of argon2id, argon2i, argon2d, scrypt, pbkdf2-sha256 or
/// pbkdf2-sha512. The last three are for hashes that exist already; [`hash_password`] makes argon2id.
///
/// Checking takes the time and memory that the string names: at most 256 MiB, 32 passes, 16 lanes; of
/// PBKDF2 at most 3,000,000 rounds.
/// Shown by `Display` as the PHC string; `Debug` shows nothing of it.
///
/// ```
/// use waypost_relay::{PasswordHash, hash_password};
/// let hash = hash_password(b"correct horse", [7; 16])?;
/// let stored: PasswordHash = hash.to_string().parse()?;
/// assert!(stored.verify(b"correct horse"));
/// assert!(!stored.verify(b"battery staple"));
/// # Ok::<(), waypost_relay::PasswordHashError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct PasswordHash(phc::PasswordHash);

/// Why a text is no password hash, or why no hash was made. No text shows the hash or the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordHashError {
    /// Not a PHC string with salt and hash; a password in clear text, perhaps.
    #[error(
        "the password is no PHC string such as `$argon2id$v=19$…` (D6); make one with `waypost hash-password`"
    )]
    Shape,
    /// A PHC string of something other than Argon2, scrypt or PBKDF2.
    #[error(
        "the password hash is of `{0}`, and those of argon2, scrypt and pbkdf2 can be checked (D6); make one of argon2id with `waypost hash-password`"
    )]
    Algorithm(String),
    /// The version or parameters are not of the algorithm.
    #[error(
        "the password hash has a version, salt or parameters that its algorithm does not have (RFC 9106, RFC 7914, RFC 8018); make another with `waypost hash-password`"
    )]
    Parameters,
    /// Checking would take too much.
    #[error(
        "checking the password hash takes {memory} KiB, {passes} passes and {lanes} lanes; at most 262144 KiB, 32 and 16 are allowed (D6); make another with `waypost hash-password`"
    )]
    TooCostly {
        /// Memory in KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// Checking would take too long.
    #[error(
        "checking the password hash takes {0} rounds; at most 3000000 are allowed (D6); make another with `waypost hash-password`"
    )]
    TooManyRounds(u32),
    /// The password to be hashed is empty or has more than [`MAX_PASSWORD`] octets.
    #[error("a password has 1 to 1024 octets (D6), not {0}")]
    PasswordLength(usize),
}

impl PasswordHash {
    /// Whether `password` is the one. Takes as long for a wrong one as for the right one; an empty
    /// or over-long one is wrong at once.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        #[cfg(test)]
        tests::RUNS.with(|runs| runs.set(runs.get() + u32::from(is_password(password))));
        is_password(password)
            && match Scheme::of(&self.0) {
                Some(Scheme::Argon2) => Argon2::default().verify_password(password, &self.0),
                Some(Scheme::Scrypt) => Scrypt::new().verify_password(password, &self.0),
                Some(Scheme::Pbkdf2) => Pbkdf2::default().verify_password(password, &self.0),
                None => return false,
            }
            .is_ok()
    }

    fn cost(&self) -> (String, Option<u32>, String) {
        let phc::PasswordHash { algorithm, version, params, .. } = &self.0;
        (algorithm.as_str().to_owned(), *version, params.as_str().to_owned())
    }
}

/// What computes a hash.
#[derive(Clone, Copy)]
enum Scheme {
    Argon2,
    Scrypt,
    Pbkdf2,
}

impl Scheme {
    fn of(hash: &phc::PasswordHash) -> Option<Self> {
        let name = hash.algorithm.as_str();
        if Algorithm::try_from(name).is_ok() {
            Some(Self::Argon2)
        } else if name == "scrypt" {
            Some(Self::Scrypt)
        } else {
            pbkdf2::Algorithm::new(name).is_ok().then_some(Self::Pbkdf2)
        }
    }

    /// What a check takes has bounds, whoever wrote the hash.
    fn bounded(self, hash: &phc::PasswordHash) -> Result<(), PasswordHashError> {
        let (memory, passes, lanes) = match self {
            Self::Argon2 => {
                let params = Params::try_from(hash).map_err(|_| PasswordHashError::Parameters)?;
                if hash.version.is_some_and(|version| Version::try_from(version).is_err()) {
                    return Err(PasswordHashError::Parameters);
                }
                (params.m_cost(), params.t_cost(), params.p_cost())
            }
            Self::Scrypt => {
                let params =
                    scrypt::Params::try_from(hash).map_err(|_| PasswordHashError::Parameters)?;
                // 128 octets for each unit of r and N (RFC 7914 section 2).
                let memory = params.n().saturating_mul(u64::from(params.r())) / 8;
                (u32::try_from(memory).unwrap_or(u32::MAX), 1, params.p())
            }
            Self::Pbkdf2 => {
                let params =
                    pbkdf2::Params::try_from(hash).map_err(|_| PasswordHashError::Parameters)?;
                return match params.rounds() {
                    rounds if rounds > MAX_ROUNDS => Err(PasswordHashError::TooManyRounds(rounds)),
                    _ => Ok(()),
                };
            }
        };
        if memory > MAX_MEMORY || passes > MAX_PASSES || lanes > MAX_LANES {
            return Err(PasswordHashError::TooCostly { memory, passes, lanes });
        }
        Ok(())
    }
}

fn is_password(password: &[u8]) -> bool {
    (1..=MAX_PASSWORD).contains(&password.len())
}

impl FromStr for PasswordHash {
    type Err = PasswordHashError;

    fn from_str(text: &str) -> Result<Self, PasswordHashError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| PasswordHashError::Shape)?;
        let Some(scheme) = Scheme::of(&hash) else {
            return Err(PasswordHashError::Algorithm(hash.algorithm.as_str().to_owned()));
        };
        let (Some(salt), Some(_)) = (&hash.salt, &hash.hash) else {
            return Err(PasswordHashError::Shape);
        };
        if salt.len() < argon2::MIN_SALT_LEN {
            return Err(PasswordHashError::Parameters);
        }
        scheme.bounded(&hash)?;
        Ok(Self(hash))
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = PasswordHashError;

    fn try_from(text: String) -> Result<Self, PasswordHashError> {
        text.parse()
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> String {
        hash.to_string()
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// The argon2id hash of a password: 19 MiB, two passes, one lane. `salt` must be random and new for
/// each password.
///
/// # Errors
/// [`PasswordHashError::PasswordLength`] for a password that is empty or over-long.
pub fn hash_password(password: &[u8], salt: [u8; 16]) -> Result<PasswordHash, PasswordHashError> {
    if !is_password(password) {
        return Err(PasswordHashError::PasswordLength(password.len()));
    }
    Argon2::default()
        .hash_password_with_salt(password, &salt)
        .map(PasswordHash)
        .map_err(|_| PasswordHashError::Parameters)
}

/// Checks passwords of known and unknown users in the same time, so that the time does not tell
/// whether a user exists (D6).
///
/// The time is that of the parameters that most users' hashes have; users with other parameters can
/// be told apart, so one should hash all passwords alike. A check takes tens of milliseconds and up
/// to 256 MiB: a caller bounds how many run at once, and runs them off its event loop.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    typical: Option<PasswordHash>,
}

impl Verifier {
    /// A verifier for users with these hashes.
    #[must_use]
    pub fn new<'a>(hashes: impl IntoIterator<Item = &'a PasswordHash>) -> Self {
        let mut costs: HashMap<_, (usize, &PasswordHash)> = HashMap::new();
        for hash in hashes {
            costs.entry(hash.cost()).or_insert((0, hash)).0 += 1;
        }
        let typical = costs.into_iter().max_by(|(a, (n, _)), (b, (m, _))| n.cmp(m).then(b.cmp(a)));
        Self { typical: typical.map(|(_, (_, hash))| hash.clone()) }
    }

    /// Whether `password` is that of the user with this hash; `None` for a user who does not exist,
    /// is not active or has no password: false, in the same time.
    #[must_use]
    pub fn verify(&self, user: Option<&PasswordHash>, password: &[u8]) -> bool {
        // One way for both, so that both cost one hash and nothing else.
        let Some(hash) = user.or(self.typical.as_ref()) else { return false };
        black_box(hash.verify(password)) & user.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Hashes computed on this thread to check a password.
        pub(super) static RUNS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// Of `password`, salt `somesalt`, with small parameters.
    fn small() -> String {
        let params = Params::new(64, 1, 1, None).unwrap();
        Argon2::from(params).hash_password_with_salt(b"password", b"somesalt").unwrap().to_string()
    }

    #[test]
    fn hashes_are_read_or_refused_d6() {
        let hash = small();
        assert_eq!(hash.parse::<PasswordHash>().unwrap().to_string(), hash);
        for (from, to) in
            [("", ""), ("argon2id", "argon2i"), ("argon2id", "argon2d"), ("$v=19", "")]
        {
            let text = hash.replacen(from, to, 1);
            assert!(text.parse::<PasswordHash>().is_ok(), "{text}");
        }
        for (from, to, want) in [
            ("argon2id", "argon2", "is of `argon2`"),
            ("argon2id", "bcrypt", "is of `bcrypt`"),
            ("argon2id", "scrypt", "parameters"),
            ("argon2id", "pbkdf2-sha256", "parameters"),
            ("argon2id", "pbkdf2-sha1", "is of `pbkdf2-sha1`"),
            ("v=19", "v=20", "version"),
            ("m=64", "m=1", "parameters"),
            ("m=64", "m=262145", "takes 262145 KiB"),
            ("m=64", "m=4294967295", "takes 4294967295 KiB"),
            ("t=1", "t=33", "33 passes"),
            ("t=1", "t=0", "parameters"),
            ("p=1", "x=1", "parameters"),
            ("p=1", "p=", "parameters"),
            ("$argon2id", "argon2id", "PHC string"),
            ("$c29tZXNhbHQ", "$c29t", "PHC string"),
            ("$c29tZXNhbHQ", "", "PHC string"),
        ] {
            let text = hash.replacen(from, to, 1);
            let error = text.parse::<PasswordHash>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains("c29t"), "{error}");
        }
        for text in ["", "secret", "$", "$$$$$$$$", "$argon2id$v=19$m=64,t=1,p=1"] {
            assert!(text.parse::<PasswordHash>().is_err(), "{text}");
        }
        assert_eq!(format!("{:?}", hash.parse::<PasswordHash>()), "Ok(PasswordHash(…))");
    }

    /// Of `password`, salt `somesalt`, made by another program.
    const OTHER: [&str; 3] = [
        "$scrypt$ln=4,r=8,p=1$c29tZXNhbHQ$7xe5L3Roj67jYaBKf3ePT2Y6rVHHGUWO44Z8iz+O6PQ",
        "$pbkdf2-sha256$i=1000,l=32$c29tZXNhbHQ$j4Aa14inUtOh7Sg/D7hH54ohymuHNQD4+ccfhepGWAY",
        "$pbkdf2-sha512$i=1000,l=64$c29tZXNhbHQ$pArTsT8AahzxmI5OZcxKNw2o4l9qiKwc5zbWR8bo8900Q7MYRcodIEijxiztL4hDlWTfVLTSRiLheMi39WU5Yw",
    ];

    #[test]
    fn other_phc_strings_are_checked_too_d6() {
        for text in OTHER {
            let hash: PasswordHash = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(hash.to_string(), text);
            assert!(hash.verify(b"password"), "{text}");
            assert!(!hash.verify(b"passwort"), "{text}");
            assert!(!hash.verify(b""), "{text}");
            assert!(!Verifier::new([&hash]).verify(None, b"password"), "an unknown user");
        }
        for (at, from, to, want) in [
            (0, "ln=4", "ln=18", ""),
            (0, "ln=4", "ln=19", "takes 524288 KiB"),
            (0, "ln=4", "ln=40", "takes 4294967295 KiB"),
            (0, "ln=4", "ln=64", "parameters"),
            (0, "p=1", "p=17", "17 lanes"),
            (0, "r=8", "r=0", "parameters"),
            (0, "$scrypt", "$scrypt$v=1", "version"),
            (1, "i=1000", "i=3000000", ""),
            (1, "i=1000", "i=3000001", "takes 3000001 rounds"),
            (1, "i=1000", "i=999", "parameters"),
            (1, "l=32", "l=33", "parameters"),
            (2, "$c29tZXNhbHQ", "$c29t", "PHC string"),
        ] {
            let text = OTHER[at].replacen(from, to, 1);
            let read = text.parse::<PasswordHash>().map_err(|error| error.to_string());
            match read {
                Ok(_) => assert_eq!(want, "", "{text}"),
                Err(error) => assert!(!want.is_empty() && error.contains(want), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn verifies_d6() {
        let hash: PasswordHash = small().parse().unwrap();
        let verifier = Verifier::new([&hash]);
        let long = [b'x'; MAX_PASSWORD + 1];
        for (password, want) in [
            (&b"password"[..], true),
            (b"Password", false),
            (b"password\0", false),
            (b"", false),
            (&long[..MAX_PASSWORD], false),
            (&long, false),
        ] {
            assert_eq!(hash.verify(password), want);
            assert_eq!(verifier.verify(Some(&hash), password), want);
            assert!(!verifier.verify(None, password), "an unknown user");
        }
        assert!(!Verifier::default().verify(None, b"password"));
    }

    /// Counted, not timed: whatever is wrong, or nothing, one hash is computed, and it is one with
    /// the parameters that most users have.
    #[test]
    fn each_check_computes_one_hash_whoever_it_is_d6() {
        let (marie, paul): (PasswordHash, PasswordHash) = {
            let paul = hash_password(b"another", [3; 16]).unwrap();
            (hash_password(b"password", [7; 16]).unwrap(), paul)
        };
        let verifier = Verifier::new([&marie, &paul]);
        for (user, password, want) in [
            (Some(&marie), &b"password"[..], true),
            (Some(&marie), b"wrong", false),
            (Some(&paul), b"password", false),
            // Nobody has the name, is inactive, or has no password.
            (None, b"password", false),
            (None, b"another", false),
            (None, b"wrong", false),
        ] {
            let before = RUNS.get();
            assert_eq!(verifier.verify(user, password), want);
            assert_eq!(RUNS.get() - before, 1, "{user:?} {}", password.escape_ascii());
            assert_eq!(verifier.typical.as_ref().map(PasswordHash::cost), Some(marie.cost()));
        }
        let before = RUNS.get();
        for user in [Some(&marie), None] {
            assert!(!verifier.verify(user, b""));
            assert!(!verifier.verify(user, &[b'x'; MAX_PASSWORD + 1]));
        }
        assert_eq!(RUNS.get(), before, "none for what is no password, whoever it is");
    }

    #[test]
    fn an_unknown_user_costs_what_most_users_cost_d6() {
        let cheap: PasswordHash = small().parse().unwrap();
        let dear: PasswordHash = small().replacen("m=64", "m=128", 1).parse().unwrap();
        let verifier = Verifier::new([&dear, &cheap, &dear]);
        assert_eq!(verifier.typical, Some(dear));
    }

    #[test]
    fn made_hashes_are_argon2id_d6() {
        let hash = hash_password("pässword".as_bytes(), [1; 16]).unwrap();
        assert!(hash.to_string().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let read: PasswordHash = hash.to_string().parse().unwrap();
        assert!(read.verify("pässword".as_bytes()));
        assert_eq!(hash_password(b"", [1; 16]), Err(PasswordHashError::PasswordLength(0)));
        assert_eq!(
            hash_password(&[0; 1025], [1; 16]),
            Err(PasswordHashError::PasswordLength(1025))
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|\\$(scrypt|pbkdf2-sha256)\\$[lnripl=,0-9]{0,20}\\$[a-zA-Z0-9+/]{0,24}\\$[a-zA-Z0-9+/]{0,24}|\\$argon2id\\$v=19\\$[mtp=,0-9]{0,20}\\$[a-zA-Z0-9+/]{0,24}\\$[a-zA-Z0-9+/]{0,24}") {
            if let Ok(hash) = text.parse::<PasswordHash>() {
                prop_assert_eq!(hash.to_string().parse::<PasswordHash>().unwrap(), hash);
            }
        }
    }
}
