//! What a guest can call of endpoints: WIT on one side, [`Lending`](crate::lending::Lending) on the other. No decision is made here.

use ocicrypt_kms_protocol::Operation;
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};
use zeroize::Zeroizing;

use super::bindings::ocicrypt::keyprovider::kms::Usage;
use super::bindings::ocicrypt::keyprovider::types::Error as GuestError;
use super::bindings::{State, nothing_lent, told};
use crate::kms::endpoint;
use crate::lending::LentEndpoint;

#[allow(missing_docs)]
mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        inline: "package ocicrypt:endpoints; world endpoints { import ocicrypt:keyprovider/kms-http@0.1.0; }",
        world: "ocicrypt:endpoints/endpoints",
        imports: {
            "ocicrypt:keyprovider/kms-http.[static]endpoint.open": async | trappable,
            "ocicrypt:keyprovider/kms-http.[method]endpoint.send": async | trappable,
            default: trappable,
        },
        with: {
            "ocicrypt:keyprovider/types": crate::sandbox::bindings::ocicrypt::keyprovider::types,
            "ocicrypt:keyprovider/kms": crate::sandbox::bindings::ocicrypt::keyprovider::kms,
            "ocicrypt:keyprovider/kms-http.endpoint": crate::lending::LentEndpoint,
        },
    });
}

use generated::ocicrypt::keyprovider::kms_http::{self, EndpointInfo, Request, Response};

/// Links a guest to the endpoints of the host.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    kms_http::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl kms_http::Host for State {}

impl kms_http::HostEndpoint for State {
    async fn open(&mut self, uri: String, usage: Usage) -> Result<Result<Resource<LentEndpoint>, GuestError>> {
        let operation = match usage {
            Usage::Wrap => Operation::Wrap,
            Usage::Unwrap => Operation::Unwrap,
        };
        let Some(lending) = &mut self.lending else { return Ok(Err(nothing_lent())) };
        Ok(match lending.open_endpoint(&uri, operation).await {
            Ok(endpoint) => Ok(self.resources.push(endpoint)?),
            Err(error) => Err(told(error)),
        })
    }

    fn info(&mut self, endpoint: Resource<LentEndpoint>) -> Result<EndpointInfo> {
        let endpoint = self.resources.get(&endpoint)?;
        Ok(EndpointInfo {
            uri: endpoint.uri().canonical().to_owned(),
            key: endpoint.key().to_owned(),
            context: endpoint.uri().context().iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            attributes: Vec::new(),
        })
    }

    async fn send(&mut self, endpoint: Resource<LentEndpoint>, request: Request) -> Result<Result<Response, GuestError>> {
        let Request { method, path, headers, body } = request;
        let request = endpoint::Request { method: &method, path: &path, headers: &headers, body: Zeroizing::new(body) };
        let lending = self.lending.as_mut().ok_or_else(|| wasmtime::Error::msg("no endpoint was lent"))?;
        let answer = lending.request(self.resources.get_mut(&endpoint)?, request).await;
        let given = |mut answer: endpoint::Response| Response {
            status: answer.status,
            headers: std::mem::take(&mut answer.headers),
            body: std::mem::take(&mut *answer.body),
        };
        Ok(answer.map(given).map_err(told))
    }

    fn drop(&mut self, endpoint: Resource<LentEndpoint>) -> Result<()> {
        self.resources.delete(endpoint)?;
        Ok(())
    }
}
