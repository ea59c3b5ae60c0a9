//! What a guest can call of endpoints: WIT on one side, [`Lending`](crate::lending::Lending) on the other. No decision is made here.

use wasmtime::Result;
use wasmtime::component::{Linker, Resource};
use zeroize::Zeroizing;

use super::bindings::{GuestError, Kms, Usage, nothing_lent, operation, told};
use super::{KmsCtxView, KmsView};
use crate::kms::endpoint;
use crate::kms::request_id::noting;
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
            "ocicrypt:keyprovider/types": crate::embedding::bindings::generated::ocicrypt::keyprovider::types,
            "ocicrypt:keyprovider/kms": crate::embedding::bindings::generated::ocicrypt::keyprovider::kms,
            "ocicrypt:keyprovider/kms-http.endpoint": crate::lending::LentEndpoint,
        },
    });
}

use generated::ocicrypt::keyprovider::kms_http::{self, EndpointInfo, Request, Response};

/// Links a guest to the endpoints of the host's configuration, for keys of services that only the guest knows: the interface `kms-http` of
/// `ocicrypt:keyprovider`.
///
/// # Errors
/// If something of the same name is linked already.
pub fn add_http_to_linker<T: KmsView + 'static>(linker: &mut Linker<T>) -> Result<()> {
    kms_http::add_to_linker::<T, Kms>(linker, T::kms)
}

impl kms_http::Host for KmsCtxView<'_> {}

impl kms_http::HostEndpoint for KmsCtxView<'_> {
    async fn open(&mut self, uri: String, usage: Usage) -> Result<Result<Resource<LentEndpoint>, GuestError>> {
        let Some(lending) = &mut self.ctx.0 else { return Ok(Err(nothing_lent())) };
        Ok(match lending.open_endpoint(&uri, operation(usage)).await {
            Ok(endpoint) => Ok(self.table.push(endpoint)?),
            Err(error) => Err(told(error)),
        })
    }

    fn info(&mut self, endpoint: Resource<LentEndpoint>) -> Result<EndpointInfo> {
        let endpoint = self.table.get(&endpoint)?;
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
        let lending = self.ctx.0.as_mut().ok_or_else(|| wasmtime::Error::msg("no endpoint was lent"))?;
        let answer = noting(lending.request(self.table.get_mut(&endpoint)?, request)).await;
        let given = |mut answer: endpoint::Response| Response {
            status: answer.status,
            headers: std::mem::take(&mut answer.headers),
            body: std::mem::take(&mut *answer.body),
        };
        Ok(answer.map(given).map_err(told))
    }

    fn drop(&mut self, endpoint: Resource<LentEndpoint>) -> Result<()> {
        self.table.delete(endpoint)?;
        Ok(())
    }
}
