//! What policies can speak of.

use std::sync::LazyLock;

use cedar_policy::Schema;

/// The schema, as Cedar writes schemas.
pub const SCHEMA: &str = include_str!("../ocicrypt-kms.cedarschema");

/// The same as JSON, which a process that makes one exchange reads in a fraction of the time.
const JSON: &str = include_str!("../ocicrypt-kms.cedarschema.json");

/// The schema, read.
pub(super) fn schema() -> &'static Schema {
    static READ: LazyLock<Schema> = LazyLock::new(|| Schema::from_json_str(JSON).expect("a test reads it"));
    &READ
}

#[cfg(test)]
mod tests {
    use cedar_policy::SchemaFragment;
    use serde_json::Value;

    use super::*;

    /// On failure: the file should hold what is printed on the left.
    #[test]
    fn both_spellings_of_the_schema_are_one_schema() {
        let (fragment, warnings) = SchemaFragment::from_cedarschema_str(SCHEMA).unwrap();
        assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), [""; 0]);
        let written: Value = serde_json::from_str(&fragment.to_json_string().unwrap()).unwrap();
        assert_eq!(written.to_string(), serde_json::from_str::<Value>(JSON).unwrap().to_string());
        schema();
    }
}
