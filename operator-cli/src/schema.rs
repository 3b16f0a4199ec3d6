//! The JSON schemas (draft 2020-12) of the answers with `-j`. `docs/json.md` shows them.

/// Name and text of each schema, in the order of the names.
pub const SCHEMAS: &[(&str, &str)] = &[
    ("apply", include_str!("../schemas/apply.json")),
    ("audit", include_str!("../schemas/audit.json")),
    ("brane", include_str!("../schemas/brane.json")),
    ("branes", include_str!("../schemas/branes.json")),
    ("capture", include_str!("../schemas/capture.json")),
    ("device", include_str!("../schemas/device.json")),
    ("devices", include_str!("../schemas/devices.json")),
    ("done", include_str!("../schemas/done.json")),
    ("error", include_str!("../schemas/error.json")),
    ("event", include_str!("../schemas/event.json")),
    ("host", include_str!("../schemas/host.json")),
    ("interfaces", include_str!("../schemas/interfaces.json")),
    ("log-levels", include_str!("../schemas/log-levels.json")),
    ("log-line", include_str!("../schemas/log-line.json")),
    ("neighbours", include_str!("../schemas/neighbours.json")),
    ("ping", include_str!("../schemas/ping.json")),
    ("protocols", include_str!("../schemas/protocols.json")),
    ("reach", include_str!("../schemas/reach.json")),
    ("receipt", include_str!("../schemas/receipt.json")),
    ("report", include_str!("../schemas/report.json")),
    ("routes", include_str!("../schemas/routes.json")),
    ("rules", include_str!("../schemas/rules.json")),
    ("save", include_str!("../schemas/save.json")),
    ("sockets", include_str!("../schemas/sockets.json")),
    ("stats", include_str!("../schemas/stats.json")),
    ("subscribers", include_str!("../schemas/subscribers.json")),
    ("why", include_str!("../schemas/why.json")),
];

/// Returns a schema by its name.
pub fn schema(name: &str) -> Option<&'static str> {
    SCHEMAS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}
