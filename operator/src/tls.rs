//! The client of the API server, on one TLS provider. It connects to nothing by itself.

/// A client for `config`. Several TLS providers may be compiled in, so one is chosen first.
pub(crate) fn client(config: kube::Config) -> Result<kube::Client, kube::Error> {
    // An error means that one has been chosen already, which is as good.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    kube::Client::try_from(config)
}
