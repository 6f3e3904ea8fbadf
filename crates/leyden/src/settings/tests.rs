//! Settings through the front door: arguments and variables in, a config or a
//! refusal out.

use std::ffi::OsString;

use super::{Command, Refusal, Settings, markdown, parse};

const URL: &str = "postgres://ada:l0velace@db.test:5433/shop";

/// `flags` are the words after `leyden serve`.
fn read(flags: &str, variables: &[(&str, &str)]) -> Result<Settings, Refusal> {
    let words = ["leyden", "serve"].into_iter().chain(flags.split_whitespace());
    let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    let command = parse(words.map(OsString::from).collect(), variables.iter().map(pair).collect())?;
    let Command::Serve(settings) = command else { panic!("{command:?}") };
    Ok(*settings)
}

/// The settings with a database and without a secret.
#[track_caller]
fn open(flags: &str, variables: &[(&str, &str)]) -> Settings {
    let base = [("DATABASE_URL", URL), ("LEYDEN_INSECURE", "true")];
    let all: Vec<_> = base.iter().chain(variables).copied().collect();
    read(flags, &all).unwrap_or_else(|refusal| panic!("{refusal}"))
}

#[track_caller]
fn check(variables: &[(&str, &str)], part_of_refusal: &str) {
    let text = read("", variables).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains(part_of_refusal), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// As `check`, where all else is in order.
#[track_caller]
fn check_one(variables: &[(&str, &str)], part_of_refusal: &str) {
    let base = [("DATABASE_URL", URL), ("LEYDEN_INSECURE", "true")];
    let all: Vec<_> = base.iter().chain(variables).copied().collect();
    check(&all, part_of_refusal);
}

#[test]
fn defaults_are_the_peers() {
    let settings = open("", &[]);
    assert_eq!(settings.api.address.to_string(), "0.0.0.0:3000");
    assert_eq!(settings.api.long_poll_timeout.as_secs(), 20);
    assert_eq!(settings.api.cache_max_age.as_secs(), 60);
    assert_eq!(settings.api.cache_stale_age.as_secs(), 300);
    assert_eq!(settings.api.max_concurrent.initial, 300);
    assert_eq!(settings.api.max_concurrent.existing, 10_000);
    assert!(!settings.api.allow_shape_deletion);
    assert_eq!(settings.engine.slot, "electric_slot_default");
    assert_eq!(settings.engine.publication, "electric_publication_default");
    assert_eq!(settings.engine.chunk_bytes_max, 10_485_760);
    assert_eq!(settings.engine.storage_dir.to_str(), Some("./persistent"));
    assert_eq!(settings.engine.admin_pool_size + settings.engine.snapshot_pool_size, 20);
}

#[test]
fn the_peers_variables_are_aliases() {
    let peers = [
        ("ELECTRIC_PORT", "4000"),
        ("ELECTRIC_LISTEN_ON_IPV6", "true"),
        ("ELECTRIC_REPLICATION_STREAM_ID", "blue"),
        ("ELECTRIC_LONG_POLL_TIMEOUT", "4000"),
        ("ELECTRIC_CACHE_MAX_AGE", "1"),
        ("ELECTRIC_MAX_CONCURRENT_REQUESTS", r#"{"initial":1,"existing":2}"#),
        ("ELECTRIC_ENABLE_INTEGRATION_TESTING", "true"),
    ];
    let settings = open("", &peers);
    assert_eq!(settings.api.address.to_string(), "[::]:4000");
    assert_eq!(settings.engine.slot, "electric_slot_blue");
    assert_eq!(settings.api.long_poll_timeout.as_millis(), 4_000);
    assert_eq!(settings.api.cache_max_age.as_secs(), 1);
    assert_eq!(settings.api.max_concurrent.initial, 1);
    assert!(settings.api.allow_shape_deletion);
}

#[test]
fn a_flag_overrides_its_variable() {
    let settings = open(
        "--port 5000 --listen-on-ipv6=false",
        &[("LEYDEN_PORT", "4000"), ("LEYDEN_LISTEN_ON_IPV6", "true")],
    );
    assert_eq!(settings.api.address.to_string(), "0.0.0.0:5000");
}

#[test]
fn a_variable_set_to_nothing_is_not_set() {
    let settings = open("", &[("LEYDEN_PORT", ""), ("LEYDEN_SECRET", "")]);
    assert_eq!(settings.api.address.port(), 3000);
}

#[test]
fn the_same_value_under_two_names_is_fine() {
    let both = [("LEYDEN_PORT", "4000"), ("ELECTRIC_PORT", "4000")];
    assert_eq!(open("", &both).api.address.port(), 4000);
    check_one(
        &[("LEYDEN_PORT", "4000"), ("ELECTRIC_PORT", "4001")],
        "ELECTRIC_PORT and LEYDEN_PORT differ: unset one of them",
    );
    check_one(
        &[("ELECTRIC_DATABASE_URL", "postgres://other@db/x")],
        "DATABASE_URL and ELECTRIC_DATABASE_URL differ",
    );
}

#[test]
fn an_unknown_variable_of_ours_is_refused_with_the_nearest() {
    check_one(&[("LEYDEN_PROT", "1")], "did you mean LEYDEN_PORT?");
    check_one(&[("LEYDEN_STORAGEDIR", "x")], "did you mean LEYDEN_STORAGE_DIR?");
    check_one(&[("LEYDEN_SOMETHING_ELSE_ALTOGETHER", "1")], "see deploy/settings.md");
    open("", &[("LEYDEN_PG_CACHE", "/tmp/x"), ("LEYDENX", "1"), ("PORT", "1")]);
}

#[test]
fn what_has_no_meaning_here_is_named_with_the_reason() {
    let settings = open(
        "",
        &[
            ("ELECTRIC_STATSD_HOST", "stats"),
            ("ELECTRIC_FROM_THE_FUTURE", "1"),
            ("CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN", "true"),
            ("SENTRY_DSN", "x"),
        ],
    );
    let names: Vec<_> = settings.ignored.iter().map(|text| text.split(' ').next()).collect();
    let expected = [
        "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN",
        "ELECTRIC_FROM_THE_FUTURE",
        "ELECTRIC_STATSD_HOST",
        "SENTRY_DSN",
    ];
    assert_eq!(names, expected.map(Some));
    assert!(settings.ignored[1].contains("unknown to Leyden"), "{:?}", settings.ignored);
}

#[test]
fn every_variable_of_the_protocol_document_is_used_or_known() {
    // Of spec/http-protocol.md §12, the names that are abbreviated there spelt out.
    const NAMES: &str = "DATABASE_URL POOLED_DATABASE_URL QUERY_DATABASE_URL DATABASE_USE_IPV6
        DATABASE_CA_CERTIFICATE_FILE DB_POOL_SIZE DATABASE_TCP_KEEPALIVE_IDLE DATABASE_TCP_KEEPALIVE_INTERVAL
        DATABASE_TCP_KEEPALIVE_COUNT DATABASE_TCP_USER_TIMEOUT REPLICATION_STREAM_ID
        TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME REPLICATION_IDLE_TIMEOUT MANUAL_TABLE_PUBLISHING
        PUBLICATION_ALTER_DEBOUNCE_TIME SECRET INSECURE INSTANCE_ID SERVICE_NAME DATABASE_ID PORT LISTEN_ON_IPV6
        TCP_SEND_TIMEOUT TCP_READ_TIMEOUT LONG_POLL_TIMEOUT CACHE_MAX_AGE CACHE_STALE_AGE
        SHAPE_CHUNK_BYTES_THRESHOLD ENABLE_INTEGRATION_TESTING MAX_CONCURRENT_REQUESTS MAX_SHAPES
        EXPERIMENTAL_MAX_SHAPES CONSUMER_PARTITIONS SUBQUERY_BUFFER_MAX_TRANSACTIONS EXPERIMENTAL_MAX_TXN_SIZE
        EXPERIMENTAL_MAX_BATCH_SIZE STORAGE STORAGE_DIR PERSISTENT_STATE CLEANUP_INTERVAL_MS SHAPE_HIBERNATE_AFTER
        SHAPE_SUSPEND_CONSUMER SHAPE_SUSPEND_AFTER FLUSH_STALL_GRACE_PERIOD SHAPE_DB_EXCLUSIVE_MODE
        SHAPE_DB_STORAGE_DIR SHAPE_DB_SYNCHRONOUS SHAPE_DB_CACHE_SIZE SHAPE_DB_ENABLE_STATS
        SHAPE_DB_ENABLE_MEMORY_STATS FEATURE_FLAGS PROFILE_WHERE_CLAUSES CONSUMER_GC_HEAP_THRESHOLD
        PROCESS_SPAWN_OPTS TWEAKS_PROCESS_REGISTRY_PARTITIONS TWEAKS_HTTP_API_NUM_ACCEPTORS
        TWEAKS_CONN_MAX_REQUESTS TWEAKS_HANDLER_FULLSWEEP_AFTER TWEAKS_PUBLICATION_REFRESH_PERIOD
        TWEAKS_SCHEMA_RECONCILER_PERIOD LOG_LEVEL LOG_COLORS LOG_OTP_REPORTS OTLP_ENDPOINT OTEL_DEBUG
        OTEL_EXPORT_PERIOD OTEL_SAMPLING_RATIO METRICS_SAMPLING_RATIO DROP_EMPTY_RESPONSE_SPANS EXCLUDE_SPANS
        HNY_API_KEY HNY_DATASET PROMETHEUS_PORT STATSD_HOST LIVE_DASHBOARD_PORT SYSTEM_METRICS_POLL_INTERVAL
        STACK_TELEMETRY_INIT_DELAY TELEMETRY_TOP_PROCESS_LIMIT TELEMETRY_LONG_GC_THRESHOLD
        TELEMETRY_LONG_SCHEDULE_THRESHOLD TELEMETRY_LONG_MESSAGE_QUEUE_ENABLE_THRESHOLD
        TELEMETRY_LONG_MESSAGE_QUEUE_DISABLE_THRESHOLD";
    let serve = super::command::plain_serve();
    for name in NAMES.split_whitespace() {
        let is_used = super::environment::ids(&serve).any(|id| id.to_uppercase() == name);
        let is_ignored = super::peer::reason(&format!("ELECTRIC_{name}")).is_some();
        assert!(is_used != is_ignored, "{name}: used {is_used}, ignored {is_ignored}");
    }
}

#[test]
fn contradictions_are_refused_with_the_remedy() {
    let database = ("DATABASE_URL", URL);
    check(&[], "set DATABASE_URL to postgres://user:password@host:port/database");
    check(&[database], "set LEYDEN_SECRET, or LEYDEN_INSECURE=true");
    check_one(&[("LEYDEN_SECRET", "x")], "unset one of them");
    check_one(&[("LEYDEN_MANUAL_TABLE_PUBLISHING", "true")], "is not supported: unset it");
    check_one(&[("LEYDEN_LONG_POLL_TIMEOUT", "0")], "set it to 20s");
    check_one(&[("LEYDEN_REPLICATION_STREAM_ID", "Blue-1")], "lower-case letters");
    check_one(&[("LEYDEN_REPLICATION_STREAM_ID", &"x".repeat(41))], "at most 40");
    check_one(
        &[("LEYDEN_DATABASE_CA_CERTIFICATE_FILE", "/nowhere/ca.pem")],
        "names /nowhere/ca.pem, which cannot be read",
    );
}

#[test]
fn a_certificate_authority_needs_tls_and_is_then_used() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let with = |mode: &str| {
        let url = format!("{URL}?sslmode={mode}");
        read(
            "--insecure",
            &[("DATABASE_URL", &url), ("ELECTRIC_DATABASE_CA_CERTIFICATE_FILE", path)],
        )
    };
    let mode = |mode: &str| with(mode).unwrap().engine.database.ssl_mode.as_str();
    assert_eq!(mode("require"), "verify-full");
    assert_eq!(mode("prefer"), "verify-full");
    assert_eq!(mode("verify-ca"), "verify-ca");
    let text = with("disable").map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("says sslmode=disable"), "{text}");
}

#[test]
fn a_bad_value_is_refused_under_the_name_of_its_variable() {
    check_one(&[("LEYDEN_PORT", "http")], "LEYDEN_PORT=\"http\" cannot be used: ");
    check_one(&[("ELECTRIC_PORT", "70000")], "ELECTRIC_PORT=\"70000\" cannot be used: ");
    check_one(&[("ELECTRIC_LISTEN_ON_IPV6", "yes")], "write true or false");
    check_one(&[("LEYDEN_TCP_READ_TIMEOUT", "soon")], "write a duration such as 20s");
    check_one(&[("LEYDEN_MAX_CONCURRENT_REQUESTS", "{}")], r#"write {"initial":300"#);
    check_one(&[("LEYDEN_LOG_LEVEL", "loud")], "write error, warning, info");
    check_one(&[("LEYDEN_DB_POOL_SIZE", "1")], "write a number from 2 to 1000");
}

#[test]
fn a_broken_url_is_refused_without_its_password() {
    for url in ["nonsense", "mysql://ada:l0velace@db/x", "postgres://ada:l0velace@db:99999/x"] {
        check(&[("DATABASE_URL", url), ("LEYDEN_INSECURE", "true")], "DATABASE_URL cannot be used");
        let refused = read("", &[("DATABASE_URL", url), ("LEYDEN_INSECURE", "true")]);
        assert!(!refused.unwrap_err().to_string().contains("l0velace"));
    }
}

#[test]
fn secrets_are_hidden() {
    let settings = read("", &[("DATABASE_URL", URL), ("LEYDEN_SECRET", "hunter2")]).unwrap();
    let shown = format!("{settings:?} {}", settings.effective);
    assert!(!shown.contains("l0velace") && !shown.contains("hunter2"), "{shown}");
    assert!(settings.effective.contains("secret=***"), "{}", settings.effective);
    assert!(settings.effective.contains("port=3000"), "{}", settings.effective);
    assert!(
        settings.effective.contains("postgres://ada:***@db%2Etest:5433/shop")
            || settings.effective.contains("postgres://ada:***@db.test:5433/shop"),
        "{}",
        settings.effective
    );
}

#[test]
fn the_table_of_settings_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/settings.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, markdown(), "run `just docs`");
}
