//! Who sent a report: the pod that a token was issued to, by TokenReview. Tokens are neither kept nor logged; the cache knows only their hashes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use millrace_crds::report::TOKEN_AUDIENCE;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// For how long an answer is believed.
const CACHED_FOR: Duration = Duration::from_mins(1);
/// Most answers that are kept.
const MAX_CACHED: usize = 10_000;
/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// A pod that proved who it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) pod: String,
}

/// Why a sender is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No bearer token, or one that cannot be one.
    #[error("no bearer token: send the pod's projected token for the audience {TOKEN_AUDIENCE}")]
    NoToken,
    /// The API server does not accept the token.
    #[error("the token is not valid for the audience {TOKEN_AUDIENCE}")]
    NotAuthenticated,
    /// The token is valid but not that of a pod.
    #[error("the token is not bound to a pod")]
    NotAPod,
    /// The API server cannot be asked.
    #[error("the token cannot be checked now")]
    Unavailable(#[source] Box<kube::Error>),
}

/// Asks the API server, at most once a minute for each token.
pub(crate) struct Authenticator {
    api: Api<TokenReview>,
    cache: Mutex<HashMap<[u8; 32], (Identity, Instant)>>,
}

impl Authenticator {
    /// An empty cache.
    pub(crate) fn new(client: Client) -> Self {
        Self { api: Api::all(client), cache: Mutex::default() }
    }

    /// The pod that `authorization`, a header's value, was issued to.
    #[expect(clippy::disallowed_methods, reason = "a TokenReview is a question, it is not stored")]
    pub(crate) async fn identify(&self, authorization: Option<&str>, now: Instant) -> Result<Identity, Error> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        let token = token.filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN).ok_or(Error::NoToken)?;
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(identity) = self.cached(&hash, now) {
            return Ok(identity);
        }
        let spec = TokenReviewSpec { audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = self.api.create(&PostParams::default(), &review).await.map_err(|error| Error::Unavailable(Box::new(error)))?;
        let identity = pod_of(review.status.as_ref())?;
        self.remember(hash, identity.clone(), now);
        Ok(identity)
    }

    fn cached(&self, hash: &[u8; 32], now: Instant) -> Option<Identity> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(hash).filter(|(_, until)| now < *until).map(|(identity, _)| identity.clone())
    }

    fn remember(&self, hash: [u8; 32], identity: Identity, now: Instant) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_CACHED {
            cache.retain(|_, (_, until)| now < *until);
        }
        if cache.len() < MAX_CACHED {
            cache.insert(hash, (identity, now + CACHED_FOR));
        }
    }
}

/// The pod that a review speaks of.
fn pod_of(status: Option<&TokenReviewStatus>) -> Result<Identity, Error> {
    let status = status.ok_or(Error::NotAuthenticated)?;
    let for_us = status.audiences.iter().flatten().any(|audience| audience == TOKEN_AUDIENCE);
    if status.authenticated != Some(true) || !for_us {
        return Err(Error::NotAuthenticated);
    }
    let user = status.user.as_ref().ok_or(Error::NotAPod)?;
    let name = user.username.as_deref().and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let (namespace, _account) = name.and_then(|name| name.split_once(':')).ok_or(Error::NotAPod)?;
    let pods = user.extra.as_ref().and_then(|extra| extra.get("authentication.kubernetes.io/pod-name"));
    match pods.map(Vec::as_slice) {
        Some([pod]) if !pod.is_empty() => Ok(Identity { namespace: namespace.to_owned(), pod: pod.clone() }),
        _ => Err(Error::NotAPod),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review(change: impl FnOnce(&mut serde_json::Value)) -> Result<Identity, Error> {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["millrace-operator"],
            "user": {
                "username": "system:serviceaccount:shop:edge",
                "extra": {"authentication.kubernetes.io/pod-name": ["edge-0"]},
            },
        });
        change(&mut status);
        pod_of(Some(&serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn a_pods_token_for_us_names_the_pod() {
        assert_eq!(review(|_| {}).unwrap(), Identity { namespace: "shop".into(), pod: "edge-0".into() });
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(matches!(pod_of(None), Err(Error::NotAuthenticated)));
        assert!(matches!(review(|s| s["authenticated"] = json!(false)), Err(Error::NotAuthenticated)));
        assert!(matches!(review(|s| s["authenticated"] = json!(null)), Err(Error::NotAuthenticated)));
        // A server that ignores audiences would accept tokens meant for others.
        assert!(matches!(review(|s| s["audiences"] = json!([])), Err(Error::NotAuthenticated)));
        assert!(matches!(review(|s| s["audiences"] = json!(["https://kubernetes.default.svc"])), Err(Error::NotAuthenticated)));
        assert!(matches!(review(|s| s["user"]["username"] = json!("admin")), Err(Error::NotAPod)));
        assert!(matches!(review(|s| s["user"]["extra"] = json!({})), Err(Error::NotAPod)));
        assert!(matches!(review(|s| s["user"]["extra"]["authentication.kubernetes.io/pod-name"] = json!(["a", "b"])), Err(Error::NotAPod)));
    }
}
