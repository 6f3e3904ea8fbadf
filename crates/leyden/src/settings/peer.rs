//! The peer's settings that have no meaning here, and why. They are accepted,
//! so that a deployment's environment can stay as it is, and named once in a
//! warning.

const BEAM: &str = "tunes the peer's virtual machine";
const TELEMETRY: &str = "nothing is exported yet";
const ONE_POOL: &str = "all connections use DATABASE_URL";
const OWN_SOCKETS: &str = "Leyden sets keepalive and timeouts itself";
const FILES: &str = "Leyden keeps shapes in files of its own";
const OWN_PACE: &str = "Leyden paces this itself";

/// Without `ELECTRIC_`, unless the name has no prefix.
pub(super) const IGNORED: [(&str, &str); 66] = [
    ("POOLED_DATABASE_URL", ONE_POOL),
    ("QUERY_DATABASE_URL", ONE_POOL),
    ("DATABASE_USE_IPV6", "IPv6 and IPv4 are both tried"),
    ("DATABASE_TCP_KEEPALIVE_IDLE", OWN_SOCKETS),
    ("DATABASE_TCP_KEEPALIVE_INTERVAL", OWN_SOCKETS),
    ("DATABASE_TCP_KEEPALIVE_COUNT", OWN_SOCKETS),
    ("DATABASE_TCP_USER_TIMEOUT", OWN_SOCKETS),
    ("CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN", "Leyden's slot outlives it; drop it yourself"),
    ("TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME", "Leyden's slot is never temporary"),
    ("REPLICATION_IDLE_TIMEOUT", "Leyden stays connected"),
    ("PUBLICATION_ALTER_DEBOUNCE_TIME", OWN_PACE),
    ("INSTANCE_ID", TELEMETRY),
    ("SERVICE_NAME", TELEMETRY),
    ("DATABASE_ID", "one process serves one database"),
    ("MAX_SHAPES", "shapes are not limited"),
    ("EXPERIMENTAL_MAX_SHAPES", "shapes are not limited"),
    ("CONSUMER_PARTITIONS", OWN_PACE),
    ("SUBQUERY_BUFFER_MAX_TRANSACTIONS", OWN_PACE),
    ("EXPERIMENTAL_MAX_TXN_SIZE", "transactions of any size are taken"),
    ("EXPERIMENTAL_MAX_BATCH_SIZE", OWN_PACE),
    ("STORAGE", FILES),
    ("PERSISTENT_STATE", FILES),
    ("CLEANUP_INTERVAL_MS", OWN_PACE),
    ("SHAPE_HIBERNATE_AFTER", BEAM),
    ("SHAPE_SUSPEND_CONSUMER", OWN_PACE),
    ("SHAPE_SUSPEND_AFTER", OWN_PACE),
    ("FLUSH_STALL_GRACE_PERIOD", OWN_PACE),
    ("SHAPE_DB_EXCLUSIVE_MODE", FILES),
    ("SHAPE_DB_STORAGE_DIR", FILES),
    ("SHAPE_DB_SYNCHRONOUS", FILES),
    ("SHAPE_DB_CACHE_SIZE", FILES),
    ("SHAPE_DB_ENABLE_STATS", FILES),
    ("SHAPE_DB_ENABLE_MEMORY_STATS", FILES),
    ("FEATURE_FLAGS", "there are none"),
    ("PROFILE_WHERE_CLAUSES", TELEMETRY),
    ("CONSUMER_GC_HEAP_THRESHOLD", BEAM),
    ("PROCESS_SPAWN_OPTS", BEAM),
    ("TWEAKS_PROCESS_REGISTRY_PARTITIONS", BEAM),
    ("TWEAKS_HTTP_API_NUM_ACCEPTORS", BEAM),
    ("TWEAKS_CONN_MAX_REQUESTS", BEAM),
    ("TWEAKS_HANDLER_FULLSWEEP_AFTER", BEAM),
    ("TWEAKS_PUBLICATION_REFRESH_PERIOD", OWN_PACE),
    ("TWEAKS_SCHEMA_RECONCILER_PERIOD", OWN_PACE),
    ("LOG_OTP_REPORTS", "supervision is always reported"),
    ("OTLP_ENDPOINT", TELEMETRY),
    ("OTEL_DEBUG", TELEMETRY),
    ("OTEL_EXPORT_PERIOD", TELEMETRY),
    ("OTEL_SAMPLING_RATIO", TELEMETRY),
    ("METRICS_SAMPLING_RATIO", TELEMETRY),
    ("DROP_EMPTY_RESPONSE_SPANS", TELEMETRY),
    ("EXCLUDE_SPANS", TELEMETRY),
    ("HNY_API_KEY", TELEMETRY),
    ("HNY_DATASET", TELEMETRY),
    ("SENTRY_DSN", TELEMETRY),
    ("PROMETHEUS_PORT", TELEMETRY),
    ("STATSD_HOST", TELEMETRY),
    ("LIVE_DASHBOARD_PORT", TELEMETRY),
    ("SYSTEM_METRICS_POLL_INTERVAL", TELEMETRY),
    ("STACK_TELEMETRY_INIT_DELAY", TELEMETRY),
    ("TELEMETRY_TOP_PROCESS_LIMIT", TELEMETRY),
    ("TELEMETRY_LONG_GC_THRESHOLD", BEAM),
    ("TELEMETRY_LONG_SCHEDULE_THRESHOLD", BEAM),
    ("TELEMETRY_LONG_MESSAGE_QUEUE_ENABLE_THRESHOLD", BEAM),
    ("TELEMETRY_LONG_MESSAGE_QUEUE_DISABLE_THRESHOLD", BEAM),
    ("USAGE_REPORTING", "nothing is reported"),
    ("TELEMETRY_URL", "nothing is reported"),
];

const WITHOUT_PREFIX: [&str; 2] = ["CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN", "SENTRY_DSN"];

/// The variables that the peer reads for it.
pub(super) fn variable(name: &str) -> String {
    if WITHOUT_PREFIX.contains(&name) { name.to_owned() } else { format!("ELECTRIC_{name}") }
}

/// Why a variable of the peer is ignored; none if it is not the peer's.
pub(super) fn reason(asked: &str) -> Option<&'static str> {
    IGNORED.iter().find(|(name, _)| variable(name) == asked).map(|(_, reason)| *reason)
}
