//! What policies can speak of.

use std::sync::LazyLock;

use cedar_policy::Schema;

/// The schema, as Cedar writes schemas.
pub const SCHEMA: &str = include_str!("../ocicrypt-kms.cedarschema");

/// The schema, read.
pub(super) fn schema() -> &'static Schema {
    static READ: LazyLock<Schema> = LazyLock::new(|| Schema::from_cedarschema_str(SCHEMA).expect("a test reads it").0);
    &READ
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_reads_without_a_warning() {
        let (_, warnings) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), [""; 0]);
        schema();
    }
}
