//! Random values of many types, as SQL literals.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Text that has tripped somebody's quoting, escaping or trimming.
pub(super) const ODD_TEXT: &[&str] = &[
    "plain",
    "",
    "it's",
    "a/b",
    "say \"hi\"",
    "back\\slash",
    "täglich",
    "日本語",
    "🙂",
    " padded ",
    "new\nline",
    "tab\there",
    "NULL",
    "\\N",
    "{a,b}",
    "\u{1}",
    "\u{7f}",
    "$1",
    "a.b",
    "_",
    "//",
    "</script>",
    "\u{2028}",
    "\r\n",
    ",",
];

/// A type of column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int4,
    Int8,
    Numeric,
    Float8,
    Bool,
    Text,
    Varchar,
    Char,
    Bytea,
    Timestamptz,
    Date,
    Interval,
    Json,
    Jsonb,
    Uuid,
    TextArray,
    IntArray,
    Inet,
    Mood,
    /// Too large for the row's page, so that Postgres moves it out of line.
    Large,
}

pub(super) const KINDS: &[Kind] = &[
    Kind::Int4,
    Kind::Int8,
    Kind::Numeric,
    Kind::Float8,
    Kind::Bool,
    Kind::Text,
    Kind::Varchar,
    Kind::Char,
    Kind::Bytea,
    Kind::Timestamptz,
    Kind::Date,
    Kind::Interval,
    Kind::Json,
    Kind::Jsonb,
    Kind::Uuid,
    Kind::TextArray,
    Kind::IntArray,
    Kind::Inet,
    Kind::Mood,
    Kind::Large,
];

impl Kind {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Numeric => "numeric(12,3)",
            Self::Float8 => "float8",
            Self::Bool => "bool",
            Self::Text | Self::Large => "text",
            Self::Varchar => "varchar(40)",
            Self::Char => "char(6)",
            Self::Bytea => "bytea",
            Self::Timestamptz => "timestamptz",
            Self::Date => "date",
            Self::Interval => "interval",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Uuid => "uuid",
            Self::TextArray => "text[]",
            Self::IntArray => "int4[]",
            Self::Inet => "inet",
            Self::Mood => "mood",
        }
    }

    /// A literal of this type, now and then NULL.
    pub(super) fn literal(self, rng: &mut StdRng) -> String {
        if rng.random_ratio(1, 6) {
            return "NULL".to_owned();
        }
        match self {
            Self::Int4 => rng.random::<i32>().to_string(),
            Self::Int8 => rng.random::<i64>().saturating_add(1).to_string(),
            Self::Numeric => {
                format!("{}.{:03}", rng.random_range(-99_999..99_999), rng.random_range(0..1000))
            }
            Self::Float8 => pick(rng, &["'NaN'", "'-Infinity'", "0.1", "1e300", "-2.5e-7", "3"]),
            Self::Bool => pick(rng, &["true", "false"]),
            Self::Text => quote(odd(rng)),
            Self::Varchar => quote(&format!("{}{}", odd(rng), rng.random_range(0..99))),
            Self::Char => pick(rng, &["'ab'", "''", "'abcdef'", "'ä'"]),
            Self::Bytea => format!("'\\x{:08x}'", rng.random::<u32>()),
            Self::Timestamptz => pick(
                rng,
                &["'infinity'", "'2026-11-23 10:30:01.1875+02'", "'0044-03-15 00:00:00+00 BC'"],
            ),
            Self::Date => pick(rng, &["'2026-02-28'", "'-infinity'", "'12026-01-01'"]),
            Self::Interval => pick(rng, &["'1 day 2 hours'", "'-3 mons 4 days'", "'0'"]),
            Self::Json => json(rng),
            Self::Jsonb => json(rng),
            Self::Uuid => format!("'{}'", uuid(rng.random::<u64>())),
            Self::TextArray => pick(rng, &["'{}'", "'{a,NULL,\"b c\"}'", "'{{x,y},{z,\"\\\"\"}}'"]),
            Self::IntArray => pick(rng, &["'{1,2,NULL}'", "'{}'", "'[2:3]={7,8}'"]),
            Self::Inet => pick(rng, &["'10.0.0.1'", "'10.1.0.0/16'", "'::1'"]),
            Self::Mood => pick(rng, &["'glad'", "'so-so'", "'it''s bad'"]),
            Self::Large => large(rng),
        }
    }
}

fn pick(rng: &mut StdRng, from: &[&str]) -> String {
    (*from.choose(rng).expect("lists of literals are not empty")).to_owned()
}

fn odd(rng: &mut StdRng) -> &'static str {
    ODD_TEXT.choose(rng).expect("the list is not empty")
}

fn json(rng: &mut StdRng) -> String {
    let text = serde_json::json!({ "n": rng.random_range(0..1000), "text": json_text(rng) });
    quote(&text.to_string())
}

/// `jsonb` refuses U+0000 only, but the list is also used where it must print.
fn json_text(rng: &mut StdRng) -> &'static str {
    odd(rng)
}

/// Random text compresses badly, so it stays long.
fn large(rng: &mut StdRng) -> String {
    let words = rng.random_range(200..1_500);
    let text: String = (0..words).map(|_| format!("{:016x}", rng.random::<u64>())).collect();
    quote(&text)
}

/// The same number gives the same UUID.
pub(super) fn uuid(number: u64) -> String {
    let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{:08x}-0000-4000-8000-{:012x}", hash >> 32, number & 0xFFFF_FFFF_FFFF)
}

/// A string literal under `standard_conforming_strings`.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A quoted identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
