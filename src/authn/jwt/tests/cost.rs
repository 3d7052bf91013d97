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
        let jwt = jwt(&signer).memory(0);
        let token = signer.token(&good());
        allocations(&jwt, &token);
        assert_eq!(allocations(&jwt, &token), 4, "{algorithm}");
        let scoped = signer.token(&with("scope", json!("orders.read orders.write")));
        assert_eq!(allocations(&jwt, &scoped), 5, "{algorithm}");
    }
}

#[test]
fn a_token_seen_before_costs_two() {
    for algorithm in [Algorithm::Hs256, Algorithm::Es256, Algorithm::Rs256] {
        let signer = Signer::new(algorithm);
        let jwt = jwt(&signer).claim_header(http::HeaderName::from_static("x-user"), "sub");
        let claims = with("scope", json!("orders.read orders.write"));
        let (plain, roles) = (signer.token(&claims), signer.token(&with("roles", json!(["a", "b"]))));
        for token in [plain, roles] {
            allocations(&jwt, &token);
            assert_eq!(allocations(&jwt, &token), 2, "{algorithm}");
        }
    }
}

/// What a token of a usual size costs in memory beside its own length, as the allocator counts it.
#[test]
fn a_remembered_token_costs_its_length_and_half_a_kilobyte() {
    const TOKENS: u64 = 1_000;

    let signer = Signer::new(Algorithm::Hs256);
    for length in [0, 300, 3_000] {
        let jwt = jwt(&signer).memory(64 << 20);
        let token = |jti: u64| {
            let mut claims = with("scope", json!("orders.read orders.write profile email"));
            claims["jti"] = json!(format!("0198c5d2-7b7e-7000-8000-{jti:012}"));
            claims["client_id"] = json!("web");
            claims["pad"] = json!("x".repeat(length));
            signer.token(&claims)
        };
        // The table itself is there from the first on, and is counted below.
        jwt.verify(&token(TOKENS)).unwrap();
        let tokens: Vec<String> = (0..TOKENS).map(token).collect();
        let own: usize = tokens.iter().map(String::len).sum();
        let used = allocation_counter::measure(|| tokens.iter().for_each(|t| drop(jwt.verify(t).unwrap())));
        let beside = (used.bytes_current as u64 - own as u64) / TOKENS + 16;
        assert_eq!(jwt.memory.as_ref().unwrap().len() as u64, TOKENS + 1);
        assert!(beside <= 512, "{beside} bytes beside the token's {}", tokens[0].len());
        println!("{beside} bytes beside the token's {}", tokens[0].len());
        // One whose claims are read is kept decoded, too: three bytes for four of its payload.
        let read = |token: &String| assert!(jwt.verify(token).unwrap().0.claim("jti").is_some());
        let used = allocation_counter::measure(|| tokens.iter().for_each(read));
        let decoded = used.bytes_current as u64 / TOKENS;
        assert!(decoded <= tokens[0].len() as u64 / 4 * 3, "{decoded} of the token's {}", tokens[0].len());
        assert!(decoded > tokens[0].len() as u64 / 2, "it is kept");
    }
}
