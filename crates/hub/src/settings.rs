//! Settings from the environment variables of `huggingface_hub`.

use std::path::{Path, PathBuf};

use prospect_core::secret::Secret;

/// Default endpoint.
const ENDPOINT: &str = "https://huggingface.co";

/// Endpoint, token and cache folder.
#[derive(Debug, Clone)]
pub(crate) struct HubSettings {
    /// Base URL of the Hub, without a trailing slash.
    pub(crate) endpoint: String,
    /// Token for gated and private repositories.
    pub(crate) token: Option<Secret>,
    /// Folder of the cache.
    pub(crate) cache: PathBuf,
    /// Use the cache only (`HF_HUB_OFFLINE`).
    pub(crate) offline: bool,
}

impl HubSettings {
    /// Reads the environment variables of `huggingface_hub`.
    pub(crate) fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set =
            |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let user =
            || Path::new(&set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_default()).join(".cache");
        let caches = || set("XDG_CACHE_HOME").map_or_else(user, PathBuf::from);
        let home = set("HF_HOME").map_or_else(|| caches().join("huggingface"), PathBuf::from);
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let saved_token = || fs_err::read_to_string(token_file).ok();
        let offline = set("HF_HUB_OFFLINE").map(|value| value.to_lowercase());
        Self {
            endpoint: set("HF_ENDPOINT")
                .unwrap_or_else(|| ENDPOINT.to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: set("HF_TOKEN").or_else(saved_token).and_then(|token| Secret::new(&token)),
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            offline: offline.is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_are_those_of_the_python_client() {
        let settings = settings(&[("HOME", "/nowhere")]);
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.cache, Path::new("/nowhere/.cache/huggingface/hub"));
        assert_eq!((settings.token, settings.offline), (None, false));
    }

    #[test]
    fn specific_variables_override_general_ones() {
        let home = tempfile::tempdir().unwrap();
        fs_err::write(home.path().join("token"), "saved\n").unwrap();
        let home = home.path().to_str().unwrap();
        let given = settings(&[("HF_HOME", home), ("XDG_CACHE_HOME", "/x"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!((given.token, given.offline), (Secret::new("saved"), true));
        assert_eq!(given.cache, Path::new(home).join("hub"));
        let given = settings(&[
            ("HF_HOME", home),
            ("HF_HUB_CACHE", "/c"),
            ("HF_TOKEN", "t"),
            ("HF_ENDPOINT", "http://h/"),
            ("HF_HUB_OFFLINE", "0"),
        ]);
        assert_eq!((given.token, given.offline), (Secret::new("t"), false));
        assert_eq!((given.cache.as_path(), given.endpoint.as_str()), (Path::new("/c"), "http://h"));
        assert_eq!(settings(&[("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
    }
}
