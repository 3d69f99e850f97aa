//! API keys and tokens.

use std::{borrow::Cow, fmt};

/// Text in place of a secret.
const REDACTED: &str = "[redacted]";

/// API key or token. Its `Debug` form hides it, and it has no `Display` form.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key; None if it is empty, or blank.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// Returns the value of an `Authorization` header.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Hides the secret in a text, such as an error message of a server that repeats the request.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if text.contains(&self.0) { Cow::Owned(text.replace(&self.0, REDACTED)) } else { Cow::Borrowed(text) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

/// Hides user name and password of a URL (`https://user:password@host/`).
pub fn without_credentials(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Cow::Borrowed(url) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("{scheme}://{REDACTED}@{host}{path}")),
        None => Cow::Borrowed(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new(" sk-1\n").unwrap();
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.bearer(), "Bearer sk-1");
        assert_eq!(secret.redact("you sent sk-1, sk-1"), "you sent [redacted], [redacted]");
        assert_eq!(Secret::new("  "), None);
    }

    #[test]
    fn credentials_of_a_url_do_not_show() {
        assert_eq!(without_credentials("https://u:p@h:1/v1?a=@b"), "https://[redacted]@h:1/v1?a=@b");
        assert_eq!(without_credentials("http://h/v1/@x"), "http://h/v1/@x");
        assert_eq!(without_credentials("plain@text"), "plain@text");
    }
}
