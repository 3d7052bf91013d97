use super::{document::Document, schema};

fn faults(text: &str) -> Vec<String> {
    let read =
        Document::<schema::Gateway>::read("f", text.as_bytes(), &schema::schema_of::<schema::Gateway>());
    let mut faults = match read {
        Ok(document) => document.log.into_faults(),
        Err(faults) => faults,
    };
    faults.sort();
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn show() {
    println!("{}", serde_json::to_string_pretty(&schema::schema_of::<schema::Gateway>()).unwrap());
    println!("{:#?}", faults(include_str!("/work/shared/gateway.yaml")));
    println!("{:#?}", faults("apiVersion: portcullis/v1alpha2\nlisteners: []\nfoo: 1\nroutes: {}\n"));
    println!(
        "{:#?}",
        faults(
            "apiVersion: portcullis/v1alpha1\nlisteners: [{name: a b, address: x, proxy: 5}, {nme: 5}, 5]\nfoo: 1\nadmin:\nratelimits:\n rateLimits: 5\nroutes: [{name: a, rules: [{retry: 5, timeouts: {request: 5}, filters: [{type: Foo, cors: {maxAge: 0, allowCredentials: no}}], policies: {split: {by: foo}, authenticate: nono, rateLimit: [5, {}]}}]}]\n"
        )
    );
    println!("{:#?}", faults("a: *x\n"));
    println!("{:#?}", faults("a: &x [*x]\n"));
    println!("{:#?}", faults("a: 5\na: 6\n? [x]\n: 5\n"));
    println!("{:#?}", faults(""));
    println!("{:#?}", faults(&"[".repeat(300)));
    println!("{:#?}", faults(&format!("a: {}", "- ".repeat(100000))));
}
