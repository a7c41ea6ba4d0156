//! What HAProxy fetches for an argument.

use crate::message::ArgumentDeclaration;

/// Fetches that take no argument and whose names say what they are: an argument of such a name needs no
/// `sample`. All are in 2.6 and later.
const WELL_KNOWN: &[&str] = &[
    "base",
    "be_name",
    "date",
    "dst",
    "dst_port",
    "fc_http_major",
    "fe_name",
    "hostname",
    "http_auth_user",
    "method",
    "path",
    "pathq",
    "query",
    "req.body",
    "req.body_size",
    "req.hdrs",
    "req.hdrs_bin",
    "req.ver",
    "res.hdrs",
    "res.hdrs_bin",
    "res.ver",
    "src",
    "src_port",
    "ssl_c_used",
    "ssl_c_verify",
    "ssl_fc",
    "ssl_fc_alpn",
    "ssl_fc_cipher",
    "ssl_fc_protocol",
    "ssl_fc_sni",
    "status",
    "unique-id",
    "url",
];

/// The sample expression of an argument: what was declared, or what its name is.
pub(super) fn sample(argument: &ArgumentDeclaration) -> Option<&'static str> {
    argument.sample.or_else(|| {
        let known = WELL_KNOWN.binary_search(&argument.name);
        known.ok().map(|index| WELL_KNOWN[index])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ValueTypes;

    #[test]
    fn the_names_are_in_order() {
        assert!(WELL_KNOWN.is_sorted());
    }

    #[test]
    fn what_is_declared_wins_over_the_name() {
        let argument = ArgumentDeclaration::new("src", ValueTypes::ANY, "an address");
        assert_eq!(sample(&argument), Some("src"));
        assert_eq!(sample(&argument.with_sample("dst")), Some("dst"));
        let unknown = ArgumentDeclaration::new("source", ValueTypes::ANY, "an address");
        assert_eq!(sample(&unknown), None);
    }
}
