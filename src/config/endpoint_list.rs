//! A list of endpoints as a document of its own.
use super::{
    at::At,
    compile::are_endpoints,
    document::Document,
    schema::{EndpointFile, schema_of},
};
use crate::upstream::{EndpointSet, Upstream};

/// Reads the document that is called `name`. The error says what is wrong with it, with lines and columns.
pub(super) fn endpoint_list(name: &str, text: &[u8]) -> Result<EndpointSet, String> {
    let document = Document::<EndpointFile>::read(name, text, &schema_of::<EndpointFile>().into());
    let Document { tree, typed, log } = document.map_err(|faults| faults.to_string())?;
    if let Some(file) = &typed {
        let at = At::top(&tree, &log).field("endpoints");
        are_endpoints(at, &file.endpoints, || Upstream::builder(""));
    }
    let faults = log.into_faults();
    let file = typed.filter(|_| !faults.refuse()).ok_or_else(|| faults.to_string())?;
    if file.endpoints.is_empty() {
        return Ok(EndpointSet::none());
    }
    Ok(EndpointSet::new(&file.endpoints))
}
