//! Paths of requests, and patterns of those that are let through.
//!
//! A path comes from a component and is compared as it is written. So it has to mean to every server, proxy and library on its way what it is
//! compared as: it has no percent-encoding, no empty, `.` or `..` segment, no backslash, no `;` and no control character. What isn't surely
//! harmless is refused.
//!
//! A pattern is such a path with `{key}` in it for the key that an endpoint was lent for, or with `*` in place of a whole segment.

use std::borrow::Cow;

/// The most bytes of a path with its query, and of a pattern.
pub const MAX_LENGTH: usize = 2048;
/// What stands for the key.
const KEY: &str = "{key}";
/// What stands for any segment.
const ANY: &str = "*";

/// Why a text is no path. It is told to the component and written into the audit log, so it quotes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More than [`MAX_LENGTH`] bytes.
    #[error("its path is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// Something else than a slash at its beginning: a URL, perhaps.
    #[error("its path does not begin with a slash")]
    Start,
    /// Two slashes in a row, or one at the end.
    #[error("its path has an empty segment")]
    EmptySegment,
    /// A `.` or `..`.
    #[error("its path has a segment `.` or `..`")]
    DotSegment,
    /// A character that could mean something else on the way.
    #[error("its path has a character that is none of letters, digits and `-._~:@,`")]
    Character,
    /// An entry without `=` or without a name, or a name that stands twice.
    #[error("its query is not NAME=VALUE, with `&` between entries and each name once")]
    Query,
}

/// What a request is for: a path and a query that passed every rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// With a slash in front.
    pub path: &'a str,
    /// What follows the question mark, if there is one.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Reads a path and a query.
    ///
    /// # Errors
    /// If it could be read in two ways.
    pub fn parse(text: &'a str) -> Result<Self, PathError> {
        if text.len() > MAX_LENGTH {
            return Err(PathError::TooLong);
        }
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        for segment in path.strip_prefix('/').ok_or(PathError::Start)?.split('/') {
            match segment {
                "" => return Err(PathError::EmptySegment),
                "." | ".." => return Err(PathError::DotSegment),
                _ => check(segment)?,
            }
        }
        let target = Self { path, query };
        let mut names = Vec::new();
        for entry in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = entry.split_once('=').ok_or(PathError::Query)?;
            if name.is_empty() || names.contains(&name) {
                return Err(PathError::Query);
            }
            check(name).and_then(|()| check(value))?;
            names.push(name);
        }
        Ok(target)
    }

    /// The names in the query.
    pub fn query_names(&self) -> impl Iterator<Item = &'a str> {
        self.query.into_iter().flat_map(|query| query.split('&')).filter_map(|entry| Some(entry.split_once('=')?.0))
    }
}

fn check(text: &str) -> Result<(), PathError> {
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:@,".contains(&byte)) {
        true => Ok(()),
        false => Err(PathError::Character),
    }
}

/// Which paths are let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If no path could match it, or it has a query.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let segments: Vec<_> = text.split('/').map(|segment| if segment == ANY { "any" } else { segment }).collect();
        match Target::parse(&segments.join("/").replace(KEY, "key"))? {
            Target { query: None, .. } if text.len() <= MAX_LENGTH => Ok(Self(text.to_owned())),
            Target { query: None, .. } => Err(PathError::TooLong),
            Target { .. } => Err(PathError::Query),
        }
    }

    /// Whether it lets `path` through, which is that of a [`Target`], for this key.
    ///
    /// The key is that of a key URI: segments of letters, digits and characters of `_-.`, none of them `.` or `..`.
    pub fn matches(&self, path: &str, key: &str) -> bool {
        let expected = self.for_key(key);
        let (mut expected, mut found) = (expected.split('/'), path.split('/'));
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return true,
                (Some(ANY), Some(_)) => {}
                (Some(expected), Some(found)) if expected == found => {}
                _ => return false,
            }
        }
    }

    /// The pattern with the key in its place: what may be written down of a request, since none of it is a component's word.
    pub fn for_key(&self, key: &str) -> Cow<'_, str> {
        match self.0.contains(KEY) {
            true => Cow::Owned(self.0.replace(KEY, key)),
            false => Cow::Borrowed(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str, key: &str) -> bool {
        Target::parse(path).is_ok_and(|target| Pattern::parse(pattern).unwrap().matches(target.path, key))
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        for (path, error) in [
            ("", PathError::Start),
            ("v1/k", PathError::Start),
            ("https://evil.example/v1/k", PathError::Start),
            ("?a=b", PathError::Start),
            ("/", PathError::EmptySegment),
            ("//evil.example/v1", PathError::EmptySegment),
            ("/v1//k", PathError::EmptySegment),
            ("/v1/k/", PathError::EmptySegment),
            ("/v1/./k", PathError::DotSegment),
            ("/v1/../k", PathError::DotSegment),
            ("/v1/k/..", PathError::DotSegment),
            ("/v1/%2e%2e/k", PathError::Character),
            ("/v1%2fk", PathError::Character),
            ("/v1/k%00", PathError::Character),
            ("/v1\\k", PathError::Character),
            ("/v1/..;/k", PathError::Character),
            ("/v1/k;a=b", PathError::Character),
            ("/v1/k#x", PathError::Character),
            ("/v1/k x", PathError::Character),
            ("/v1/k\r\nHost: evil.example", PathError::Character),
            ("/v1/\u{ff0e}\u{ff0e}/k", PathError::Character),
            ("/v1/{key}", PathError::Character),
            ("/v1/*", PathError::Character),
            ("/v1/k?", PathError::Query),
            ("/v1/k?a", PathError::Query),
            ("/v1/k?=b", PathError::Query),
            ("/v1/k?a=1&a=2", PathError::Query),
            ("/v1/k?a=1&", PathError::Query),
            ("/v1/k?a=b%26c=d", PathError::Character),
            ("/v1/k?a=b#c", PathError::Character),
            ("/v1/k?a=b?c", PathError::Character),
            ("/v1/k?a=b;c=d", PathError::Character),
        ] {
            assert_eq!(Target::parse(path), Err(error), "{path}");
        }
        assert_eq!(Target::parse(&format!("/{}", "k".repeat(MAX_LENGTH))), Err(PathError::TooLong));
        let target = Target::parse("/v1/k~1:encrypt,@x?version=2&b=").unwrap();
        assert_eq!((target.path, target.query_names().collect::<Vec<_>>()), ("/v1/k~1:encrypt,@x", vec!["version", "b"]));
    }

    #[test]
    fn a_pattern_lets_through_the_lent_key_alone() {
        for (pattern, path, key) in [
            ("/v1/encrypt/{key}", "/v1/encrypt/k", "k"),
            ("/v1/encrypt/{key}", "/v1/encrypt/team/k", "team/k"),
            ("/keys/{key}:encrypt", "/keys/k:encrypt", "k"),
            ("/{key}/x/{key}", "/k/x/k", "k"),
            ("/kv/{key}/*", "/kv/k/0f1e", "k"),
            ("/login", "/login", "k"),
        ] {
            assert!(matches(pattern, path, key), "{pattern} {path} {key}");
        }
        for (pattern, path, key) in [
            ("/v1/encrypt/{key}", "/v1/encrypt/other", "k"),
            ("/v1/encrypt/{key}", "/v1/encrypt/k/x", "k"),
            ("/v1/encrypt/{key}", "/v1/encrypt", "k"),
            ("/v1/encrypt/{key}", "/v1/decrypt/k", "k"),
            ("/v1/encrypt/{key}", "/v1/encrypt/team", "team/k"),
            ("/v1/encrypt/{key}", "/x/v1/encrypt/k", "k"),
            ("/v1/encrypt/{key}", "/V1/encrypt/k", "k"),
            ("/kv/{key}/*", "/kv/k", "k"),
            ("/kv/{key}/*", "/kv/k/a/b", "k"),
            ("/kv/{key}/*", "/kv/k/..", "k"),
            ("/kv/{key}/*", "/kv/other/a", "k"),
        ] {
            assert!(!matches(pattern, path, key), "{pattern} {path} {key}");
        }
    }

    #[test]
    fn a_pattern_that_no_path_matches_is_refused() {
        for pattern in ["", "v1", "/", "/v1/", "/a//b", "/a/../b", "/a*", "/a/**", "/{name}", "/{key", "/a/b?c=d", "/%7bkey%7d", "/a b"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    const KEYS: &str = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,5}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,5}){0,3}";

    proptest! {
        #[test]
        fn no_text_makes_it_panic(path in "\\PC*|(?s:.{0,60})|[a-c/.%?&=*{}]{0,30}", pattern in "(/[a-c*{}.]{1,3}){1,4}|(?s:.{0,30})", key in KEYS) {
            let (target, pattern) = (Target::parse(&path), Pattern::parse(&pattern));
            if let (Ok(target), Ok(pattern)) = (target, pattern) {
                pattern.matches(target.path, &key);
            }
        }

        #[test]
        fn what_is_let_through_is_what_an_address_library_sends(path in "/[a-c/.:@,~?&=-]{0,20}|(?s:.{0,30})") {
            if let Ok(target) = Target::parse(&path) {
                let url = url::Url::parse(&format!("https://kms.example{path}")).unwrap();
                prop_assert_eq!((url.host_str(), url.path(), url.query()), (Some("kms.example"), target.path, target.query));
            }
        }

        #[test]
        fn a_pattern_with_a_key_matches_its_own_path_and_that_of_no_other_key(
            before in "(/[a-z0-9]{1,4}){0,3}", after in "(/[a-z]{1,4}){0,2}|:[a-z]{1,4}", key in KEYS, other in KEYS,
        ) {
            let pattern = Pattern::parse(&format!("{before}/{{key}}{after}")).unwrap();
            let path = |key: &str| format!("{before}/{key}{after}");
            prop_assert!(Target::parse(&path(&key)).is_ok());
            prop_assert!(pattern.matches(&path(&key), &key));
            prop_assert_eq!(pattern.matches(&path(&other), &key), other == key);
        }

        #[test]
        fn a_star_is_one_segment(path in "(/[a-c]{1,2}){1,4}", at in any::<prop::sample::Index>()) {
            let mut segments: Vec<_> = path[1..].split('/').collect();
            let at = at.index(segments.len());
            segments[at] = "*";
            let pattern = Pattern::parse(&format!("/{}", segments.join("/"))).unwrap();
            prop_assert!(pattern.matches(&path, "k"));
            let longer = format!("{path}/x");
            prop_assert!(!pattern.matches(&longer, "k"));
        }
    }
}
