//! The region of a key, with the place that says it: a misspelled one would be looked for in DNS, which says nothing of settings.

use crate::key_uri::partition_of;
use crate::{Error, shown};

/// A region, and what says that it is this one.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub name: String,
    /// A variable, a profile, …, as errors call it.
    pub place: String,
}

/// The regions that AWS had when this was written, by botocore 1.44's [`partitions.json`]: what a misspelled one is compared with. Newer ones are
/// used like these.
///
/// [`partitions.json`]: https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json
const KNOWN: &[&str] = &[
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "me-west-1",
    "mx-central-1",
    "sa-east-1",
    "sa-west-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "cn-north-1",
    "cn-northwest-1",
    "eusc-de-east-1",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-iso-east-1",
    "us-iso-west-1",
    "us-isob-east-1",
    "us-isob-west-1",
    "eu-isoe-west-1",
    "us-isof-east-1",
    "us-isof-south-1",
];
/// The words in the names of regions that say where in its area one is.
const DIRECTIONS: [&str; 9] = ["north", "south", "east", "west", "central", "northeast", "southeast", "northwest", "southwest"];
/// How many letters of a name may be wrong for it to be taken for a misspelled one.
const MISSPELLED: usize = 2;

impl Region {
    /// Whether it can be a region's name: one that is known, or one like those.
    pub fn check(&self) -> Result<(), Error> {
        let (name, shown) = (self.name.as_str(), shown::name(&self.name));
        if KNOWN.contains(&name) {
            return Ok(());
        }
        let wrong = |reason: String| Err(Error::Configuration { place: self.place.clone(), reason });
        if let Some(plain) = without_fips(name) {
            return wrong(format!("{shown} asks for a FIPS endpoint; name the region `{plain}`, and set AWS_USE_FIPS_ENDPOINT=true"));
        }
        if let Some(region) = zone_of(name) {
            return wrong(format!("{shown} is a zone, not a region; its region is `{region}`"));
        }
        match direction(name) {
            Some(direction) if DIRECTIONS.contains(&direction) => Ok(()),
            found => match nearest(name) {
                Some(near) => wrong(format!("{shown} is not the name of an AWS region; did you mean `{near}`?")),
                // There may be such a region by now.
                None if found.is_some() => Ok(()),
                None => wrong(format!("{shown} is not the name of an AWS region; they are written like `eu-central-1`")),
            },
        }
    }

    /// A host that can't be found may not be there because of its region's name.
    pub fn doubt(&self) -> Option<String> {
        let unknown = !KNOWN.contains(&self.name.as_str());
        unknown.then(|| format!("is {} a region of AWS? {} says so", shown::name(&self.name), self.place))
    }

    /// The domain of its partition's endpoints.
    pub fn domain(&self, dual_stack: bool) -> &'static str {
        let partition = partition_of(&self.name);
        if dual_stack { partition.dual_stack_suffix } else { partition.dns_suffix }
    }
}

/// The word in front of the number, of a text in the form of a region's name.
fn direction(name: &str) -> Option<&str> {
    let mut parts = name.rsplitn(3, '-');
    let (number, direction, area) = (parts.next()?, parts.next()?, parts.next()?);
    let is_word = |word: &str| (1..=16).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && is_word(direction) && name.len() <= 32 && area.split('-').all(is_word)).then_some(direction)
}

/// The region that a zone is in: `us-east-1a`, `us-west-2-lax-1a`, `us-east-1-wl1-bos-wlz-1`.
fn zone_of(name: &str) -> Option<&'static str> {
    let is_zone = |rest: &str| rest.starts_with('-') || (rest.len() == 1 && rest.bytes().all(|byte| byte.is_ascii_lowercase()));
    KNOWN.iter().copied().find(|region| name.strip_prefix(region).is_some_and(is_zone))
}

/// Names that older SDKs took for a region and its FIPS endpoint.
fn without_fips(name: &str) -> Option<&str> {
    name.strip_prefix("fips-").or_else(|| name.strip_suffix("-fips")).filter(|plain| KNOWN.contains(plain))
}

/// The known region that a name most likely means.
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 32 {
        return None;
    }
    let plain = name.to_ascii_lowercase().replace(['_', ' '], "-");
    let near = KNOWN.iter().map(|known| (distance(&plain, known), *known)).min()?;
    (near.0 <= MISSPELLED).then_some(near.1)
}

/// How many letters have to be put in, taken out or changed (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.bytes().enumerate() {
        let mut before = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in to.bytes().enumerate() {
            let changed = before + usize::from(letter != other);
            before = row[column + 1];
            row[column + 1] = changed.min(before + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) -> Result<(), String> {
        Region { name: name.into(), place: "AWS_REGION".into() }.check().map_err(|error| error.line())
    }

    #[test]
    fn regions_that_are_known_and_ones_like_them_are_used() {
        for name in ["us-east-1", "us-east-9", "us-gov-west-1", "eusc-de-east-1", "nz-north-1", "us-iso-west-1"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_misspelled_region_is_told_with_the_setting_and_what_was_meant() {
        for (name, says) in [
            ("us-eest-1", "did you mean `us-east-1`?"),
            ("us-east1", "did you mean `us-east-1`?"),
            ("US-EAST-1", "did you mean `us-east-1`?"),
            ("eu_central_1", "did you mean `eu-central-1`?"),
            ("us-east-1a", "is a zone, not a region; its region is `us-east-1`"),
            ("ap-southeast-2c", "its region is `ap-southeast-2`"),
            ("us-west-2-lax-1a", "its region is `us-west-2`"),
            ("fips-us-gov-west-1", "name the region `us-gov-west-1`, and set AWS_USE_FIPS_ENDPOINT=true"),
            ("us-east-1-fips", "name the region `us-east-1`"),
            ("frankfurt", "they are written like `eu-central-1`"),
            ("aws-global", "they are written like `eu-central-1`"),
            ("", "they are written like"),
            ("a.example/", "they are written like"),
            ("eu-central-1.example", "is not the name of an AWS region"),
            ("a@b", "is not the name of an AWS region"),
        ] {
            let line = check(name).unwrap_err();
            assert!(line.starts_with("AWS_REGION: ") && line.contains(says), "{name}: {line}");
        }
        assert!(check(&"x".repeat(64)).is_err());
    }

    #[test]
    fn a_region_that_is_not_known_is_doubted() {
        let doubt = |name: &str| Region { name: name.into(), place: "AWS_REGION".into() }.doubt();
        assert_eq!(doubt("us-east-1"), None);
        assert_eq!(doubt("us-east-9").unwrap(), "is `us-east-9` a region of AWS? AWS_REGION says so");
    }
}
