//! What Microsoft Entra says when it gives no token out, and what to do about it.
//!
//! The numbers: <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.

/// Numbers, and the remedy that they have in common.
const REMEDIES: &[(&[u32], &str)] = &[
    (
        &[7000215, 7000222],
        "check AZURE_CLIENT_SECRET, which is a secret's value and not its id, or make a new secret: az ad app credential reset --append --id CLIENT_ID",
    ),
    (
        &[90002, 900021, 900023],
        "check AZURE_TENANT_ID (az account show --query tenantId), and AZURE_AUTHORITY_HOST if the tenant is of another cloud",
    ),
    (
        &[700016, 7000229],
        "check AZURE_CLIENT_ID and AZURE_TENANT_ID, and that the application is in this tenant: az ad sp show --id CLIENT_ID",
    ),
    (&[7000112], "enable the application: az ad sp update --id CLIENT_ID --set accountEnabled=true"),
    (&[700024], "set this machine's clock, which is not that of Microsoft Entra"),
    (&[53003, 53011, 530035], "have the tenant's administrator let the application in from this address (Conditional Access)"),
    (&[500011, 500014], "use a tenant that has Azure Key Vault: check AZURE_TENANT_ID and AZURE_AUTHORITY_HOST"),
];

/// What to do about an answer, if it has a number that says more than what kind of credential was refused.
pub(super) fn remedy(answer: &str) -> Option<&'static str> {
    let (_, rest) = answer.split_once("AADSTS")?;
    let number = rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()?;
    REMEDIES.iter().find(|(numbers, _)| numbers.contains(&number)).map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_is_advised_only_where_the_secret_is_refused() {
        let says = |answer: &str| remedy(answer).unwrap_or_default();
        assert!(says("it answered 401: AADSTS7000222: The provided client secret keys are expired.").contains("make a new secret"));
        for (answer, advice) in [
            ("AADSTS700016: Application with identifier 'c' was not found", "az ad sp show"),
            ("AADSTS90002: Tenant 't' not found", "AZURE_TENANT_ID"),
            ("AADSTS7000112: Application 'c' is disabled.", "enable the application"),
            ("AADSTS700024: Client assertion is not within its valid time range.", "clock"),
            ("AADSTS53003: Access has been blocked by Conditional Access policies.", "Conditional Access"),
            ("AADSTS500011: The resource principal named https://vault.azure.net was not found", "AZURE_AUTHORITY_HOST"),
        ] {
            assert!(says(answer).contains(advice) && !says(answer).contains("new secret"), "{answer}: {}", says(answer));
        }
        for unknown in ["", "AADSTS", "AADSTS99999999999: no", "AADSTS1: no", "it answered 404"] {
            assert_eq!(remedy(unknown), None, "{unknown}");
        }
    }
}
