//! What one token costs, in allocations.

use http::{Request, header};

use super::*;
use crate::{gate::Gate as _, head::Head};

fn allocations(jwt: &Jwt, token: &str) -> u64 {
    let bearer = format!("Bearer {token}");
    let mut request = Request::get("/").header(header::AUTHORIZATION, bearer).body(()).unwrap();
    // Others have put something there before.
    request.extensions_mut().insert(());
    allocation_counter::measure(|| jwt.check(&mut Head::of(&mut request)).unwrap()).count_total
}

#[test]
fn a_token_costs_few_allocations_whatever_its_algorithm() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(*algorithm);
        let jwt = jwt(&signer);
        let token = signer.token(&good());
        allocations(&jwt, &token);
        assert_eq!(allocations(&jwt, &token), 4, "{algorithm}");
        let scoped = signer.token(&with("scope", json!("orders.read orders.write")));
        assert_eq!(allocations(&jwt, &scoped), 5, "{algorithm}");
    }
}
