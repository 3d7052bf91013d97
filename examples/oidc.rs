//! An axum application for the users of an OpenID provider.
//!
//! ```sh
//! cargo run --example oidc --features axum,jwt,tls,transport,upstream -- 127.0.0.1:3000 https://id.shop.example shop
//! ```

#![expect(clippy::print_stdout, reason = "it talks to who runs it")]

use std::{error::Error, net::SocketAddr};

use axum::{Router, routing::get};
use portcullis::{
    admission::authz::Authorize,
    authn::{
        jwks::RemoteKeys,
        jwt::{Claims, Jwt},
    },
    fetch::Fetch,
    identity::Principal,
    tls::ClientTls,
    transport::{Listener, Server},
    upstream::Client,
};

#[derive(serde::Deserialize)]
struct Shopper {
    #[serde(default)]
    email: Option<String>,
}

async fn orders(caller: Principal, claims: Claims) -> String {
    let email = claims.deserialize::<Shopper>().ok().and_then(|shopper| shopper.email);
    format!("the orders of {}, to be sent to {}\n", caller.subject(), email.as_deref().unwrap_or("nobody"))
}

/// The keys of a provider, which is asked over TLS.
fn keys(issuer: &str) -> Result<RemoteKeys, Box<dyn Error>> {
    let client = Client::builder().tls(ClientTls::platform()?).build();
    Ok(RemoteKeys::discover(issuer, Fetch::new(client)).build()?)
}

fn app(keys: &RemoteKeys, issuer: &str, audience: &str) -> Router {
    let users = Jwt::new(keys).named("users").issuer(issuer).audiences([audience]);
    Router::new()
        .route("/orders", get(orders))
        .route_layer(Authorize::new().all_scopes(["orders.read"]).layer())
        .route("/me", get(|caller: Principal| async move { format!("{}\n", caller.subject()) }))
        .route_layer(users.layer())
        .route("/", get(|| async { "hello\n" }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:3000").parse()?;
    let issuer = arguments.next().ok_or("which issuer?")?;
    let audience = arguments.next().unwrap_or("shop".to_owned());

    let keys = keys(&issuer)?;
    if let Err(error) = keys.ready().await {
        // They go on being asked for; until they are here, tokens are answered 503.
        println!("{error}");
    }
    let listener = Listener::bind(address)?;
    println!("curl -i -H \"authorization: Bearer $TOKEN\" http://{}/orders", listener.local_addr()?);
    Server::new().serve(listener, app(&keys, &issuer, &audience)).await;
    Ok(())
}
