//! Encryption of objects with age: to recipients on the way in, with an identity on the way out.

use crate::output::{Failure, fail};
use age::x25519::{Identity, Recipient};
use std::{
    io::{Read, Write},
    path::Path,
};

/// Recipients out of options: each is an `age1…`, or a file with one a line.
///
/// # Errors
/// One is neither.
pub fn recipients(options: &[String]) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for option in options {
        if option.starts_with("age1") {
            found.push(option.clone());
            continue;
        }
        let text = std::fs::read_to_string(option).map_err(Failure::file(Path::new(option)))?;
        found.extend(keys(&text).map(ToOwned::to_owned));
    }
    found.iter().try_for_each(|text| parse(text).map(drop))?;
    found.sort();
    found.dedup();
    Ok(found)
}

fn parse(text: &str) -> Result<Recipient, Failure> {
    let shown: String = text.chars().take(70).collect();
    text.parse().map_err(|error| Failure(format!("'{shown}' is no recipient of age: {error}")))
}

/// The identities in a file, as age-keygen writes it.
///
/// # Errors
/// It cannot be read, or has none. Nothing of its content is shown.
pub fn identities(path: &Path) -> Result<Vec<Identity>, Failure> {
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(Failure::file(path))?);
    let found: Vec<Identity> = keys(&text).filter_map(|line| line.parse().ok()).collect();
    if found.is_empty() {
        let problem = "no line is an identity of age (AGE-SECRET-KEY-1…)";
        return Err(Failure(format!("{}: {problem}", path.display())));
    }
    Ok(found)
}

fn keys(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Encrypts.
///
/// # Errors
/// A recipient is none.
pub fn seal(recipients: &[String], bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let parsed = recipients.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    let to = parsed.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(to).map_err(fail)?;
    let mut sealed = Vec::with_capacity(bytes.len() + 1024);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(fail)?;
    writer.write_all(bytes).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(sealed)
}

/// Decrypts at most `length` bytes.
///
/// # Errors
/// It was encrypted to others, or altered.
pub fn open(identities: &[Identity], sealed: &[u8], length: u64) -> Result<Vec<u8>, String> {
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(|error| error.to_string())?;
    let with = identities.iter().map(|identity| identity as &dyn age::Identity);
    let reader = decryptor.decrypt(with).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => {
            "it was encrypted to other recipients: this is not the right --identity".to_owned()
        }
        other => other.to_string(),
    })?;
    let mut bytes = Vec::new();
    reader
        .take(length.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_with_the_right_identity_only() {
        let (ours, other) = (Identity::generate(), Identity::generate());
        let to = recipients(&[ours.to_public().to_string()]).unwrap();
        let sealed = seal(&to, b"some bytes").unwrap();
        assert_eq!(open(std::slice::from_ref(&ours), &sealed, 100).unwrap(), b"some bytes");
        assert!(open(&[other], &sealed, 100).unwrap_err().contains("--identity"));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            let opened = open(std::slice::from_ref(&ours), &altered, 100);
            assert!(opened.is_err() || opened.is_ok_and(|bytes| bytes == b"some bytes"), "{at}");
        }
        assert!(recipients(&["age1nonsense".to_owned()]).is_err());
    }
}
