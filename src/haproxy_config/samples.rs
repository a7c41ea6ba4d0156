//! Sample expressions: which type of argument HAProxy sends for each, and when it can be fetched.
//!
//! The tables are of HAProxy's own list of what it registers (`haproxy -dKsmp,cnv`, of 2.6 to 3.2), with
//! the types that were seen on the wire where they are others: addresses are declared IPV4 up to 2.8 and
//! are either, `req.hdrs` and `req.body_param` come as text. What is not in them has no known type.

use super::read::{Line, Word};
use crate::message::ValueTypes;

/// What a fetch or converter gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Bool,
    Int,
    Ip,
    Ipv4,
    Ipv6,
    Str,
    Bin,
    /// Text or binary, which is not known before.
    Bytes,
    /// What it is given.
    Same,
    Any,
}

impl Type {
    /// The types on the wire; `None` if it is not known.
    const fn on_the_wire(self) -> Option<ValueTypes> {
        Some(match self {
            Self::Bool => ValueTypes::BOOL,
            Self::Int => ValueTypes::INT64,
            Self::Ip => ValueTypes::ADDRESS,
            Self::Ipv4 => ValueTypes::IPV4,
            Self::Ipv6 => ValueTypes::IPV6,
            Self::Str => ValueTypes::STRING,
            Self::Bin => ValueTypes::BINARY,
            Self::Bytes => ValueTypes::BYTES,
            Self::Same | Self::Any => return None,
        })
    }
}

/// At which events a fetch has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Everywhere,
    /// Not before there is a stream.
    Streams,
    Requests,
    Responses,
    /// Once a backend is chosen.
    Backends,
    /// Once a server is chosen.
    Servers,
}

/// When HAProxy sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    ClientSession,
    FrontendTcpRequest,
    FrontendHttpRequest,
    BackendTcpRequest,
    BackendHttpRequest,
    ServerSession,
    TcpResponse,
    HttpResponse,
}

impl Event {
    pub(super) const ALL: [(&'static str, Self); 8] = [
        ("on-client-session", Self::ClientSession),
        ("on-frontend-tcp-request", Self::FrontendTcpRequest),
        ("on-frontend-http-request", Self::FrontendHttpRequest),
        ("on-backend-tcp-request", Self::BackendTcpRequest),
        ("on-backend-http-request", Self::BackendHttpRequest),
        ("on-server-session", Self::ServerSession),
        ("on-tcp-response", Self::TcpResponse),
        ("on-http-response", Self::HttpResponse),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, event)| *event)
    }

    /// Whether a response is under way.
    pub(super) const fn is_response(self) -> bool {
        matches!(self, Self::TcpResponse | Self::HttpResponse)
    }

    /// Whether there is one in HTTP mode only.
    pub(super) const fn is_http(self) -> bool {
        matches!(
            self,
            Self::FrontendHttpRequest | Self::BackendHttpRequest | Self::HttpResponse
        )
    }

    /// Whether a filter of a backend never sees it.
    pub(super) const fn is_of_frontends(self) -> bool {
        matches!(
            self,
            Self::ClientSession | Self::FrontendTcpRequest | Self::FrontendHttpRequest
        )
    }
}

impl Where {
    fn has(self, event: Event) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Streams => event != Event::ClientSession,
            Self::Requests => event != Event::ClientSession && !event.is_response(),
            Self::Responses => event.is_response(),
            Self::Backends => !event.is_of_frontends(),
            Self::Servers => event == Event::ServerSession || event.is_response(),
        }
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::Everywhere => "always",
            Self::Streams => "from a stream",
            Self::Requests => "from a request",
            Self::Responses => "from a response",
            Self::Backends => "once a backend is chosen",
            Self::Servers => "once a server is chosen",
        }
    }
}

#[rustfmt::skip]
const FETCHES: &[(Type, Where, &[&str])] = &[
    (Type::Int, Where::Backends, &[
        "be_id be_server_timeout be_tunnel_timeout cur_server_timeout cur_tunnel_timeout",
    ]),
    (Type::Str, Where::Backends, &[
        "be_name",
    ]),
    (Type::Any, Where::Everywhere, &[
        "var",
    ]),
    (Type::Bin, Where::Everywhere, &[
        "bin req.ssl_cipherlist req.ssl_keyshare_groups req.ssl_sigalgs req.ssl_supported_groups",
    ]),
    (Type::Bool, Where::Everywhere, &[
        "always_false always_true bool dst_is_local fc_dst_is_local fc_rcvd_proxy fc_src_is_local",
        "quic_enabled src_is_local srv_is_up stopping wait_end",
    ]),
    (Type::Int, Where::Everywhere, &[
        "accept_date act_conn avg_queue bc_rtt bc_rttvar be_conn be_conn_free be_sess_rate connslots",
        "cur_client_timeout date date_us dst_conn dst_port fc_dst_port fc_err fc_fackets fc_glitches",
        "fc_http_major fc_lost fc_nb_streams fc_reordering fc_retrans fc_rtt fc_rttvar fc_sacked fc_src_port",
        "fc_unacked fe_client_timeout fe_conn fe_id fe_req_rate fe_sess_rate int nbproc nbsrv pid prio_class",
        "prio_offset proc queue rand so_id src_port srv_conn srv_conn_free srv_iweight srv_queue",
        "srv_sess_rate srv_uweight srv_weight table_avl table_cnt thread txn.id32 uptime",
    ]),
    (Type::Ip, Where::Everywhere, &[
        "dst fc_dst fc_src src",
    ]),
    (Type::Ipv4, Where::Everywhere, &[
        "ipv4",
    ]),
    (Type::Ipv6, Where::Everywhere, &[
        "ipv6",
    ]),
    (Type::Str, Where::Everywhere, &[
        "env fc_err_name fc_err_str fc_pp_authority fc_pp_unique_id fe_defbe fe_name hostname meth so_name",
        "spoe.engine-id str txn.sess_term_state unique-id uuid",
    ]),
    (Type::Bin, Where::Requests, &[
        "base32+src req.body req.hdrs_bin req.payload req.payload_lv url32+src",
    ]),
    (Type::Bool, Where::Requests, &[
        "http_auth req.ssl_ec_ext",
    ]),
    (Type::Int, Where::Requests, &[
        "base32 cook_cnt cook_val hdr_cnt hdr_val rdp_cookie_cnt req.body_len req.body_size req.cook_cnt",
        "req.cook_val req.fhdr_cnt req.hdr_cnt req.hdr_val req.len req.rdp_cookie_cnt req.ssl_hello_type",
        "req.ssl_st_ext req.ssl_ver req_len req_ssl_hello_type req_ssl_ver url32 url_port urlp_val",
    ]),
    (Type::Ip, Where::Requests, &[
        "hdr_ip req.hdr_ip",
    ]),
    (Type::Ipv4, Where::Requests, &[
        "url_ip",
    ]),
    (Type::Str, Where::Requests, &[
        "base baseq cook fcgi.docroot fcgi.index http_auth_bearer http_auth_group http_auth_pass",
        "http_auth_type http_auth_user path pathq query rdp_cookie req.body_param req.cook req.cook_names",
        "req.fhdr req.hdr req.hdr_names req.hdrs req.rdp_cookie req.ssl_alpn req.ssl_sni req.ver req_ssl_sni",
        "req_ver url url_param urlp",
    ]),
    (Type::Bin, Where::Responses, &[
        "res.body res.hdrs_bin res.payload res.payload_lv ssl_bc_client_random ssl_bc_server_random",
        "ssl_bc_session_id ssl_bc_session_key ssl_bc_unique_id",
    ]),
    (Type::Bool, Where::Responses, &[
        "bc_reused res.comp ssl_bc ssl_bc_is_resumed txn.redispatched",
    ]),
    (Type::Int, Where::Responses, &[
        "bc_be_queue bc_dst_port bc_err bc_glitches bc_http_major bc_nb_streams bc_setting_streams_limit",
        "bc_settings_streams_limit bc_src_port bc_srv_queue rep_ssl_hello_type res.body_len res.body_size",
        "res.cook_cnt res.cook_val res.fhdr_cnt res.hdr_cnt res.hdr_val res.len res.ssl_hello_type scook_cnt",
        "scook_val server_status shdr_cnt shdr_val ssl_bc_alg_keysize ssl_bc_err ssl_bc_use_keysize",
        "ssl_ocsp_fail_cnt ssl_ocsp_status ssl_ocsp_success_cnt status txn.conn_retries txn.status",
    ]),
    (Type::Ip, Where::Responses, &[
        "bc_dst bc_src res.hdr_ip shdr_ip",
    ]),
    (Type::Str, Where::Responses, &[
        "bc_err_name bc_err_str capture.res.hdr res.comp_algo res.cook res.cook_names res.fhdr res.hdr",
        "res.hdr_names res.hdrs res.ver resp_ver scook shdr ssl_bc_alpn ssl_bc_cipher ssl_bc_curve",
        "ssl_bc_err_str ssl_bc_npn ssl_bc_protocol ssl_bc_sni ssl_ocsp_certid ssl_ocsp_certname",
        "ssl_ocsp_status_str",
    ]),
    (Type::Bool, Where::Servers, &[
        "res.cache_hit",
    ]),
    (Type::Int, Where::Servers, &[
        "srv_id",
    ]),
    (Type::Str, Where::Servers, &[
        "res.cache_name srv_name",
    ]),
    (Type::Bin, Where::Streams, &[
        "payload payload_lv ssl_c_chain_der ssl_c_der ssl_c_serial ssl_c_sha1 ssl_f_der ssl_f_serial",
        "ssl_f_sha1 ssl_fc_client_random ssl_fc_server_random ssl_fc_session_id ssl_fc_session_key",
        "ssl_fc_unique_id ssl_s_chain_der ssl_s_der ssl_s_serial ssl_s_sha1",
    ]),
    (Type::Bool, Where::Streams, &[
        "http_first_req req.proto_http req_proto_http ssl_c_used ssl_fc ssl_fc_early_rcvd ssl_fc_has_crt",
        "ssl_fc_has_early ssl_fc_has_sni ssl_fc_is_resumed",
    ]),
    (Type::Bytes, Where::Streams, &[
        "ssl_fc_cipherlist_bin ssl_fc_cipherlist_hex ssl_fc_ecformats_bin ssl_fc_eclist_bin",
        "ssl_fc_extlist_bin ssl_fc_sigalgs_bin ssl_fc_supported_versions_bin",
    ]),
    (Type::Int, Where::Streams, &[
        "fc_settings_streams_limit request_date ssl_c_ca_err ssl_c_ca_err_depth ssl_c_err ssl_c_verify",
        "ssl_c_version ssl_f_version ssl_fc_alg_keysize ssl_fc_cipherlist_xxh ssl_fc_err",
        "ssl_fc_protocol_hello_id ssl_fc_use_keysize ssl_s_version",
    ]),
    (Type::Str, Where::Streams, &[
        "capture.req.hdr capture.req.method capture.req.uri capture.req.ver capture.res.ver cookie fc_pp_tlv",
        "hdr method ssl_bc_client_early_traffic_secret ssl_bc_client_handshake_traffic_secret",
        "ssl_bc_client_traffic_secret_0 ssl_bc_early_exporter_secret ssl_bc_exporter_secret",
        "ssl_bc_server_handshake_traffic_secret ssl_bc_server_traffic_secret_0 ssl_c_i_dn ssl_c_key_alg",
        "ssl_c_notafter ssl_c_notbefore ssl_c_r_dn ssl_c_s_dn ssl_c_san ssl_c_sig_alg ssl_f_i_dn",
        "ssl_f_key_alg ssl_f_notafter ssl_f_notbefore ssl_f_s_dn ssl_f_sig_alg ssl_fc_alpn ssl_fc_cipher",
        "ssl_fc_cipherlist_str ssl_fc_client_early_traffic_secret ssl_fc_client_handshake_traffic_secret",
        "ssl_fc_client_traffic_secret_0 ssl_fc_curve ssl_fc_early_exporter_secret ssl_fc_err_str",
        "ssl_fc_exporter_secret ssl_fc_npn ssl_fc_protocol ssl_fc_server_handshake_traffic_secret",
        "ssl_fc_server_traffic_secret_0 ssl_fc_sni ssl_s_i_dn ssl_s_key_alg ssl_s_notafter ssl_s_notbefore",
        "ssl_s_s_dn ssl_s_sig_alg",
    ]),
];

#[rustfmt::skip]
const CONVERTERS: &[(Type, &[&str])] = &[
    (Type::Any, &[
        "json_query jwt_header_query jwt_payload_query protobuf rfc7239_n2nn rfc7239_n2np ungrpc",
    ]),
    (Type::Bin, &[
        "aes_gcm_dec aes_gcm_enc b64dec digest fix_tag_value hmac htonl sha1 sha2 ub64dec",
    ]),
    (Type::Bool, &[
        "bool even fix_is_valid has_ctl in_table mqtt_is_valid not odd rfc7239_is_valid secure_memcmp",
        "srv_is_up",
    ]),
    (Type::Bytes, &[
        "bytes",
    ]),
    (Type::Int, &[
        "add and cpl crc32 crc32c date div djb2 hex2i jwt_verify length map_beg_int map_dir_int map_dom_int",
        "map_end_int map_int_int map_ip_int map_reg_int map_str_int map_sub_int mod mul nbsrv neg or",
        "port_only sdbm srv_queue strcmp sub wt6 xor xxh3 xxh32 xxh64",
    ]),
    (Type::Ip, &[
        "ipmask map_beg_ip map_dir_ip map_dom_ip map_end_ip map_int_ip map_ip_ip map_reg_ip map_str_ip",
        "map_sub_ip",
    ]),
    (Type::Same, &[
        "debug set-var unset-var when",
    ]),
    (Type::Str, &[
        "add_item base2 base64 be2dec be2hex capture-req capture-res concat cut_crlf field hex host_only",
        "http_date iif json language le2dec lower ltime ltrim map map_beg map_beg_key map_dir map_dir_key",
        "map_dom map_dom_key map_end map_end_key map_int map_int_key map_ip map_ip_key map_reg map_reg_key",
        "map_regm map_str map_str_key map_sub map_sub_key mqtt_field_value ms_ltime ms_utime param regsub",
        "rfc7239_field rfc7239_nn rfc7239_np rtrim ub64enc upper url_dec url_enc us_ltime us_utime utime word",
        "x509_v_err_str",
    ]),
];

/// Fetches that are NULL where the client, or another, did not send the thing: what they begin with.
#[rustfmt::skip]
const OPTIONAL: &[&str] = &[
    "capture.", "cook", "fc_pp_", "fcgi.", "hdr", "http_auth", "query", "rdp_cookie", "req.body_param",
    "req.cook", "req.fhdr", "req.hdr", "req.rdp_cookie", "req.ssl_", "req_ssl_", "res.cook", "res.fhdr",
    "res.hdr", "res.ssl_", "scook", "shdr", "so_name", "ssl_bc_", "ssl_c_", "ssl_f_", "ssl_fc_", "ssl_s_",
    "unique-id", "url_ip", "url_param", "url_port", "urlp", "var",
];

/// Of these, the ones that are always there.
#[rustfmt::skip]
const NOT_OPTIONAL: &[&str] = &[
    "cook_cnt", "hdr_cnt", "req.cook_cnt", "req.fhdr_cnt", "req.hdr_cnt", "req.hdr_names", "req.hdrs",
    "req.hdrs_bin", "res.cook_cnt", "res.fhdr_cnt", "res.hdr_cnt", "res.hdr_names", "res.hdrs",
    "res.hdrs_bin", "scook_cnt", "shdr_cnt", "ssl_c_used", "ssl_fc_has_crt", "ssl_fc_has_early",
    "ssl_fc_has_sni", "ssl_fc_is_resumed",
];

/// What is known of a sample expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The fetch, without arguments.
    pub(super) fetch: String,
    /// Types of its value where it has one.
    pub(super) types: Option<ValueTypes>,
    /// Whether it is NULL at times.
    pub(super) is_optional: bool,
    place: Option<Where>,
}

impl Sample {
    pub(super) fn parse(expression: &str) -> Self {
        let mut parts = Parts(expression);
        let (fetch, arguments) = parts.next().unwrap_or_default();
        let known = fetch_of(fetch);
        let mut types = known.and_then(|(kind, _)| kind.on_the_wire());
        let has_default = fetch == "var" && arguments.contains(',');
        let mut is_optional = OPTIONAL.iter().any(|prefix| fetch.starts_with(prefix))
            && !NOT_OPTIONAL.contains(&fetch)
            && !has_default;
        for (converter, _) in parts {
            match converter_of(converter) {
                Some(Type::Same) => {}
                Some(kind) => types = kind.on_the_wire(),
                None => types = None,
            }
            // A map without a default, a word that is not there.
            is_optional |=
                converter.starts_with("map") || matches!(converter, "param" | "word" | "field");
        }
        Self {
            fetch: fetch.to_owned(),
            types,
            is_optional,
            place: known.map(|(_, place)| place),
        }
    }

    /// If HAProxy cannot fetch it at this event: when it can, in words.
    pub(super) fn missing_at(&self, event: Event) -> Option<&'static str> {
        let place = self.place?;
        (!place.has(event)).then(|| place.in_words())
    }
}

/// The types of argument that HAProxy may send for a sample expression; `None` if that is not known, as
/// for `var()`. NULL is among them where the fetch may have nothing.
///
/// ```
/// use ringspoa::ValueTypes;
/// use ringspoa::haproxy_config::sample_types;
///
/// assert_eq!(sample_types("src"), Some(ValueTypes::ADDRESS));
/// assert_eq!(sample_types("req.body,sha1,hex"), Some(ValueTypes::STRING));
/// assert_eq!(
///     sample_types("req.hdr(host),lower"),
///     Some(ValueTypes::STRING.or(ValueTypes::NULL))
/// );
/// assert_eq!(sample_types("var(txn.x)"), None);
/// ```
#[must_use]
pub fn sample_types(expression: &str) -> Option<ValueTypes> {
    let sample = Sample::parse(expression);
    let types = sample.types?;
    Some(if sample.is_optional {
        types.or(ValueTypes::NULL)
    } else {
        types
    })
}

fn fetch_of(name: &str) -> Option<(Type, Where)> {
    let listed = FETCHES.iter().find(|(_, _, names)| contains(names, name));
    listed
        .map(|(kind, place, _)| (*kind, *place))
        .or_else(|| counter_of(name).map(|kind| (kind, Where::Everywhere)))
}

fn converter_of(name: &str) -> Option<Type> {
    if name.starts_with("table_") {
        return Some(Type::Int);
    }
    let listed = CONVERTERS.iter().find(|(_, names)| contains(names, name));
    listed.map(|(kind, _)| *kind)
}

fn contains(rows: &[&str], name: &str) -> bool {
    let mut names = rows.iter().flat_map(|row| row.split(' '));
    names.any(|listed| listed == name)
}

/// The many counters of stick tables: `sc0_http_req_rate`, `sc_conn_cur`, `src_get_gpc0`.
fn counter_of(name: &str) -> Option<Type> {
    let (tracker, counter) = name.split_once('_')?;
    match (tracker, counter) {
        ("sc" | "sc0" | "sc1" | "sc2", "tracked") => Some(Type::Bool),
        ("sc" | "sc0" | "sc1" | "sc2", "key") => Some(Type::Any),
        ("sc" | "sc0" | "sc1" | "sc2" | "src", counter) => {
            let ends = [
                "_cnt",
                "_rate",
                "_cur",
                "kbytes_in",
                "kbytes_out",
                "_gpc",
                "_gpc0",
                "_gpc1",
                "_gpt",
                "_gpt0",
                "trackers",
            ];
            ends.iter()
                .any(|end| counter.ends_with(end))
                .then_some(Type::Int)
        }
        _ => None,
    }
}

/// Names and arguments of an expression: the fetch, then converters.
struct Parts<'e>(&'e str);

impl<'e> Iterator for Parts<'e> {
    type Item = (&'e str, &'e str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = std::mem::take(&mut self.0);
        if text.is_empty() {
            return None;
        }
        let end = text.find(['(', ',']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let (arguments, rest) = match rest.strip_prefix('(') {
            Some(inside) => arguments(inside),
            None => ("", rest),
        };
        self.0 = rest.strip_prefix(',').unwrap_or_default();
        Some((name, arguments))
    }
}

/// What stands between parentheses, of which the first one is gone, and what comes after.
fn arguments(text: &str) -> (&str, &str) {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match (character, quote) {
            ('\\', None | Some('"')) => is_escaped = true,
            ('"' | '\'', None) => quote = Some(character),
            (character, Some(open)) if character == open => quote = None,
            (')', None) => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

/// An argument of an `args` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    /// What stands before the first `=`; empty if there is none.
    pub(super) name: String,
    pub(super) expression: String,
    /// Whether the environment has a part in it.
    pub(super) is_open: bool,
}

/// The arguments on an `args` line. A word that is a converter goes with the expression before it.
pub(super) fn arguments_of(line: &Line) -> Vec<Argument> {
    let mut arguments: Vec<Argument> = Vec::new();
    for Word { text, is_open } in line.rest(1) {
        let name = Parts(text).next().map_or("", |(name, _)| name);
        if let Some(last) = arguments.last_mut()
            && converter_of(name).is_some()
            && fetch_of(name).is_none()
        {
            last.expression = format!("{},{text}", last.expression);
            last.is_open |= is_open;
            continue;
        }
        let (name, expression) = text.split_once('=').unwrap_or(("", text));
        arguments.push(Argument {
            name: name.to_owned(),
            expression: expression.to_owned(),
            is_open: *is_open,
        });
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy_config::finding::Place;

    #[test]
    fn types_of_fetches_and_converters() {
        let optional = |types: ValueTypes| Some(types.or(ValueTypes::NULL));
        for (expression, types) in [
            ("src", Some(ValueTypes::ADDRESS)),
            ("src,ipmask(24,64)", Some(ValueTypes::ADDRESS)),
            ("src,lower", Some(ValueTypes::STRING)),
            ("dst_port", Some(ValueTypes::INT64)),
            ("ssl_fc", Some(ValueTypes::BOOL)),
            ("method", Some(ValueTypes::STRING)),
            ("req.body", Some(ValueTypes::BINARY)),
            ("req.hdrs_bin", Some(ValueTypes::BINARY)),
            ("req.body,length", Some(ValueTypes::INT64)),
            (
                "req.hdr_ip(x-forwarded-for,-1)",
                optional(ValueTypes::ADDRESS),
            ),
            ("req.hdr_val(a)", optional(ValueTypes::INT64)),
            ("req.fhdr(a),bool", optional(ValueTypes::BOOL)),
            ("str('a),hex')", Some(ValueTypes::STRING)),
            ("str(\"a\\\"),\"),hex2i", Some(ValueTypes::INT64)),
            ("str(a\\)),length", Some(ValueTypes::INT64)),
            ("path,map(/f)", optional(ValueTypes::STRING)),
            ("sc0_http_req_rate(t)", Some(ValueTypes::INT64)),
            ("sc1_tracked", Some(ValueTypes::BOOL)),
            ("src,table_conn_cnt(t)", Some(ValueTypes::INT64)),
            ("path,set-var(txn.p)", Some(ValueTypes::STRING)),
            ("var(txn.a)", None),
            ("var(txn.a),lower", optional(ValueTypes::STRING)),
            ("var(txn.a,5),add(1)", Some(ValueTypes::INT64)),
            ("lua.mine", None),
            ("path,lua.mine", None),
            ("sc0_what", None),
            ("", None),
            ("(", None),
            (",", None),
        ] {
            assert_eq!(sample_types(expression), types, "{expression}");
        }
    }

    #[test]
    fn each_name_is_listed_once() {
        let fetches = FETCHES.iter().map(|(_, _, rows)| rows);
        let converters = CONVERTERS.iter().map(|(_, rows)| rows);
        for lists in [fetches.collect::<Vec<_>>(), converters.collect()] {
            let mut names: Vec<_> = lists
                .into_iter()
                .flat_map(|rows| rows.iter())
                .flat_map(|row| row.split(' '))
                .collect();
            assert!(names.len() > 80);
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }

    #[test]
    fn fetches_have_their_events() {
        for (fetch, event, is_there) in [
            ("src", Event::ClientSession, true),
            ("path", Event::ClientSession, false),
            ("path", Event::FrontendHttpRequest, true),
            ("path", Event::HttpResponse, false),
            ("res.hdr(a)", Event::HttpResponse, true),
            ("res.hdr(a)", Event::BackendHttpRequest, false),
            ("method", Event::HttpResponse, true),
            ("be_name", Event::FrontendHttpRequest, false),
            ("srv_name", Event::ServerSession, true),
            ("srv_name", Event::BackendTcpRequest, false),
            ("lua.x", Event::ClientSession, true),
        ] {
            let missing = Sample::parse(fetch).missing_at(event);
            assert_eq!(missing.is_none(), is_there, "{fetch} {event:?}");
        }
    }

    #[test]
    fn converters_may_be_words_of_their_own() {
        let word = |text: &&str| Word {
            text: (*text).to_owned(),
            is_open: false,
        };
        let words = [
            "args",
            "ip=src",
            "ipmask(24)",
            "path",
            "x=str(a=b)",
            "date",
            "lower",
        ];
        let line = Line {
            place: Place { file: 0, line: 1 },
            words: words.iter().map(word).collect(),
        };
        let arguments: Vec<_> = arguments_of(&line)
            .into_iter()
            .map(|argument| (argument.name, argument.expression))
            .collect();
        let expected = [
            ("ip", "src,ipmask(24)"),
            ("", "path"),
            ("x", "str(a=b)"),
            ("", "date,lower"),
        ];
        assert_eq!(
            arguments,
            expected.map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }
}
