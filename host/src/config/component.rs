//! Settings of the component that is run.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use crate::digest::Digest;

/// Which component is run, and within which limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Component {
    /// Its file: the built-in component without one; `--component` comes before it.
    pub file: Option<PathBuf>,
    /// Its SHA-256 digest; `--component-sha256` comes before it.
    #[serde(deserialize_with = "digest")]
    pub sha256: Option<Digest>,
    /// The most memory of one instance of a component that isn't built in, in MiB; 1 to 1024.
    pub memory_mib: u32,
    /// How long such a component may compute in one exchange; 10 to 30000.
    pub cpu_milliseconds: u32,
    /// Whether its compiled code is kept for the next process.
    pub cache: bool,
}

impl Default for Component {
    fn default() -> Self {
        Self { file: None, sha256: None, memory_mib: 256, cpu_milliseconds: 5000, cache: true }
    }
}

impl Component {
    /// Whether the limits are in their ranges.
    ///
    /// # Errors
    /// Says which one isn't.
    pub fn check(&self) -> Result<(), String> {
        match (self.memory_mib, self.cpu_milliseconds) {
            (1..=1024, 10..=30_000) => Ok(()),
            (1..=1024, _) => Err("`component.cpu-milliseconds` is not from 10 to 30000".into()),
            _ => Err("`component.memory-mib` is not from 1 to 1024".into()),
        }
    }
}

fn digest<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Digest>, D::Error> {
    String::deserialize(text)?.parse().map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn what_is_no_digest_is_an_error_that_names_the_line() {
        let error = Config::parse("[component]\nsha256 = 'abc'\n").unwrap_err();
        assert!(error.starts_with("line 2: it is not a SHA-256 digest"), "{error}");
    }

    #[test]
    fn limits_have_ranges() {
        for (setting, name) in [
            ("memory-mib = 0", "memory-mib"),
            ("memory-mib = 1025", "memory-mib"),
            ("cpu-milliseconds = 9", "cpu-"),
            ("cpu-milliseconds = 30001", "cpu-"),
        ] {
            let error = Config::parse(&format!("[component]\n{setting}\n")).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        assert!(Config::parse("[component]\nmemory-mib = 1024\ncpu-milliseconds = 30000\n").is_ok());
    }
}
