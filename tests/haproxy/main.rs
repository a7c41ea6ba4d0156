//! Real HAProxy, our server, real HTTP requests: every scenario with every version that
//! `scripts/install-haproxy` installs. A version that is not there fails its tests.
//!
//! | file | what it has |
//! |---|---|
//! | `messages` | what HAProxy sends arrives, what the agent sets is seen |
//! | `remediation` | the binary with its own agent |
//! | `captcha` | decisions about requests, and a provider that is asked |
//! | `bouncer` | the binary by its `[remediation]` table, and the samples for CrowdSec's messages |
//! | `challenge` | browser validation, by the samples for it and by berghain's rules |
//! | `concurrency` | many streams a connection, several threads, Unix sockets |
//! | `lifecycle` | health checks; reloads and restarts of HAProxy and of the agent |
//! | `restart` | hand-overs and reloads of the binary under load |
//! | `harness` | configurations made from declarations, and `TestHaproxy` for the tests of users |
//! | `samples` | the configurations of dist/, with and without an agent |
//! | `types` | what `ringspoa check` says of sample expressions |
//! | `lapi` | CrowdSec, as `scripts/install-crowdsec` installs it |
//! | `fixture`, `http` | processes and configuration; a client |
#![cfg(all(feature = "server", feature = "cli"))]

#[path = "../asked/mod.rs"]
mod asked;
mod bouncer;
mod captcha;
mod challenge;
mod concurrency;
mod fixture;
mod harness;
mod http;
// Some of it is for the tests of sources alone.
#[allow(dead_code)]
#[path = "../crowdsec/lapi.rs"]
mod lapi;
mod lifecycle;
mod messages;
mod remediation;
mod restart;
mod samples;
mod types;

macro_rules! scenarios {
    ($($theme:ident::$scenario:ident,)*) => {
        scenarios!(@version haproxy_2_6 V2_6 $($theme::$scenario,)*);
        scenarios!(@version haproxy_2_8 V2_8 $($theme::$scenario,)*);
        scenarios!(@version haproxy_3_0 V3_0 $($theme::$scenario,)*);
        scenarios!(@version haproxy_3_2 V3_2 $($theme::$scenario,)*);
    };
    (@version $module:ident $version:ident $($theme:ident::$scenario:ident,)*) => {
        mod $module {
            $(
                #[test]
                fn $scenario() {
                    crate::$theme::$scenario(crate::fixture::Version::$version);
                }
            )*
        }
    };
}

scenarios! {
    messages::variables_are_visible_in_the_response,
    messages::unnamed_arguments_arrive_in_order,
    messages::two_messages_on_one_event_share_a_notify,
    messages::header_blobs_keep_every_byte,
    messages::both_forms_of_headers_agree,
    messages::post_bodies_arrive_whole,
    messages::a_message_above_max_frame_size,
    messages::a_message_above_the_default_max_frame_size,
    remediation::ban_is_answered_403,
    remediation::ban_list_is_followed,
    captcha::a_visitor_solves_a_captcha,
    bouncer::the_crowdsec_sample_shows_pages_and_captchas,
    bouncer::lists_and_settings_change_while_haproxy_asks,
    bouncer::the_open_crowdsec_sample_fails_open,
    bouncer::the_closed_crowdsec_sample_fails_closed,
    bouncer::a_decision_of_cscli_reaches_haproxy,
    bouncer::appsec_judges_requests_over_http_1_and_2,
    bouncer::requests_that_are_too_long_to_be_asked_about_do_not_pass,
    bouncer::no_length_is_a_way_past_the_agent,
    bouncer::no_body_is_judged_by_its_beginning,
    challenge::a_browser_passes_and_nobody_else,
    challenge::cookies_are_for_one_host_or_a_trusted_domain,
    challenge::pages_are_for_who_navigates,
    challenge::a_form_is_kept,
    challenge::nothing_but_a_solution_gives_a_cookie,
    challenge::who_has_no_javascript_waits,
    challenge::a_level_may_rise_meanwhile,
    challenge::agents_with_the_same_keys_are_one,
    challenge::a_solution_outlives_its_agent,
    challenge::without_an_agent_it_is_open_or_closed,
    challenge::hosts_stay_what_they_are,
    challenge::crawlers_are_known_by_their_addresses,
    challenge::a_dry_run_challenges_nobody,
    challenge::a_support_id_leads_to_why,
    challenge::no_header_and_no_spelling_is_a_way_in,
    challenge::an_exception_is_for_its_own_paths,
    challenge::haproxy_limits_and_revokes,
    challenge::keys_change_under_load,
    challenge::an_agent_dies_under_load,
    challenge::bad_solutions_are_cheap,
    challenge::rules_of_berghain_go_on_working,
    concurrency::twenty_streams_are_pipelined_and_answered_in_reverse,
    concurrency::two_threads_over_tcp,
    concurrency::two_threads_over_a_unix_socket,
    lifecycle::check_goes_down_and_up_with_the_server,
    lifecycle::idle_haproxy_stops_softly_at_once,
    lifecycle::reload_under_load_loses_nothing,
    lifecycle::agent_restart_under_load_over_tcp,
    lifecycle::agent_restart_under_load_over_a_unix_socket,
    restart::hand_overs_and_reloads_over_a_unix_socket,
    restart::hand_overs_and_reloads_over_tcp,
    harness::variables_of_each_type_come_back,
    harness::a_variable_that_is_not_set_is_none,
    harness::an_agent_that_is_down_is_an_error_of_spoe,
    harness::all_events_groups_and_scopes,
    harness::samples_are_quoted,
    harness::the_compiled_in_agent_is_asked,
    harness::variables_that_do_not_fit_are_an_error,
    harness::a_lost_connection_is_an_error_of_spoe,
    harness::what_haproxy_says_is_in_the_error,
    harness::nothing_is_left_of_a_killed_test,
    harness::bodies_are_waited_for,
    harness::nothing_is_left_behind,
    samples::the_open_sample_asks_and_fails_open,
    samples::no_length_is_a_way_past_the_open_sample,
    samples::the_closed_sample_asks_and_fails_closed,
    samples::the_closed_sample_refuses_what_got_no_answer,
    types::arguments_have_the_types_that_are_expected,
}
