//! Workload and workforce identity federation ([AIP-4117]): somebody else's token is exchanged for Google's ([RFC 8693]).
//!
//! [AIP-4117]: https://google.aip.dev/auth/4117
//! [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::SCOPE;
use super::fields::Fields;
use super::refresh::Client;
use super::subject_token::SubjectToken;
use super::token::Token;
use super::token_service::TokenService;
use crate::Error;

const HINT: &str = "check `audience` and `credential_source` in the credential file, and what the provider accepts: gcloud iam \
                    workload-identity-pools providers describe PROVIDER --workload-identity-pool POOL --location global";

/// Where tokens are exchanged, and what for.
pub(super) struct Federation {
    url: Url,
    audience: String,
    token_type: String,
    client: Option<Client>,
    /// The project that workforce users' exchanges are counted for.
    user_project: Option<String>,
    subject: SubjectToken,
}

impl Federation {
    pub fn read(fields: Fields<'_>) -> Result<Self, String> {
        let client = match (fields.text("client_id")?, fields.text("client_secret")?) {
            (Some(id), Some(secret)) => Some(Client { id, secret: secret.into() }),
            _ => None,
        };
        Ok(Self {
            url: fields.address("token_url", "https://sts.googleapis.com/v1/token")?,
            audience: fields.required("audience")?,
            token_type: fields.required("subject_token_type")?,
            client,
            user_project: fields.text("workforce_pool_user_project")?,
            subject: SubjectToken::read(fields)?,
        })
    }

    pub async fn token(&self, service: &TokenService<'_>) -> Result<Token, Error> {
        let subject = self.subject.get(service, &self.audience, &self.token_type).await?;
        let mut form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", &self.audience),
            ("scope", SCOPE),
            ("subject_token", &subject),
            ("subject_token_type", &self.token_type),
        ];
        // A client of its own has a project already.
        let options = self.user_project.as_ref().filter(|_| self.client.is_none());
        let options = options.map(|project| serde_json::json!({ "userProject": project }).to_string());
        form.extend(options.iter().map(|options| ("options", options.as_str())));
        let headers = self.client.as_ref().map_or_else(HeaderMap::new, Client::basic);
        let answer = service.post_form(&self.url, headers, &form, HINT).await?;
        service.token_in(&self.url, &answer)
    }
}
