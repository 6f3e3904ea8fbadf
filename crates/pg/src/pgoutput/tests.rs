use bytes::{BufMut, BytesMut};
use change::{Row, Value};
use proptest::prelude::*;

use super::*;

const COMMIT_LSN: u64 = 0x16_B374_D848;

fn begin() -> Bytes {
    let mut out = BytesMut::from(&b"B"[..]);
    out.put_u64(COMMIT_LSN);
    out.put_i64(7);
    out.put_u32(742);
    out.freeze()
}

fn commit() -> Bytes {
    let mut out = BytesMut::from(&b"C\0"[..]);
    out.put_u64(COMMIT_LSN);
    out.put_u64(COMMIT_LSN + 0x30);
    out.put_i64(7);
    out.freeze()
}

fn relation(oid: u32, name: &str, identity: u8, columns: &[&str]) -> Bytes {
    let mut out = BytesMut::from(&b"R"[..]);
    out.put_u32(oid);
    out.put_slice(b"public\0");
    out.put_slice(name.as_bytes());
    out.put_u8(0);
    out.put_u8(identity);
    out.put_u16(columns.len() as u16);
    for (index, column) in columns.iter().enumerate() {
        out.put_u8(u8::from(index == 0));
        out.put_slice(column.as_bytes());
        out.put_u8(0);
        out.put_u32(25);
        out.put_i32(-1);
    }
    out.freeze()
}

fn tuple(out: &mut BytesMut, tag: u8, values: &[Value<'_>]) {
    out.put_u8(tag);
    out.put_u16(values.len() as u16);
    for value in values {
        match value {
            Value::Null => out.put_u8(b'n'),
            Value::Unchanged => out.put_u8(b'u'),
            Value::Text(text) => {
                out.put_u8(b't');
                out.put_u32(text.len() as u32);
                out.put_slice(text);
            }
        }
    }
}

fn change(kind: u8, oid: u32, tuples: &[(u8, &[Value<'_>])]) -> Bytes {
    let mut out = BytesMut::from(&[kind][..]);
    out.put_u32(oid);
    for (tag, values) in tuples {
        tuple(&mut out, *tag, values);
    }
    out.freeze()
}

fn truncate(options: u8, oids: &[u32]) -> Bytes {
    let mut out = BytesMut::from(&b"T"[..]);
    out.put_u32(oids.len() as u32);
    out.put_u8(options);
    oids.iter().for_each(|oid| out.put_u32(*oid));
    out.freeze()
}

fn values(row: &Row) -> Vec<Option<String>> {
    (0..row.cells.len())
        .map(|index| match row.view().get(index) {
            Value::Null => None,
            Value::Unchanged => Some("<unchanged>".to_owned()),
            Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        })
        .collect()
}

fn feed(decoder: &mut Decoder, messages: &[Bytes]) -> Result<Vec<Fragment>, Error> {
    let mut fragments = Vec::new();
    for message in messages {
        fragments.extend(decoder.feed(message)?);
    }
    Ok(fragments)
}

const A: Value<'_> = Value::Text(b"a");
const B: Value<'_> = Value::Text(b"b");

/// Runs the message in a transaction over table 1 (`t`: id, v), and compares
/// what comes out, an error included.
#[track_caller]
fn check(identity: u8, message: Bytes, expected: Result<&str, &str>) {
    let mut decoder = Decoder::new();
    let table = relation(1, "t", identity, &["id", "v"]);
    let actual = match feed(&mut decoder, &[begin(), table, message, commit()]) {
        Err(error) => Err(error.to_string()),
        Ok(fragments) => {
            let changes = fragments.iter().flat_map(|fragment| &fragment.changes);
            let texts = changes.map(|change| match &change.operation {
                Operation::Insert { new } => format!("insert {:?}", values(new)),
                Operation::Update { old, new } => {
                    format!("update {:?} to {:?}", old.as_ref().map(values), values(new))
                }
                Operation::Delete { old } => format!("delete {:?}", values(old)),
                Operation::Truncate => "truncate".to_owned(),
                Operation::Incomplete => "?".to_owned(),
            });
            Ok(texts.collect::<Vec<_>>().join("; "))
        }
    };
    match expected {
        Ok(expected) => assert_eq!(actual.as_deref(), Ok(expected)),
        Err(expected) => {
            let error = actual.expect_err("an error");
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[test]
fn every_kind_of_change_is_decoded_or_refused() {
    check(b'f', change(b'I', 1, &[(b'N', &[A, Value::Null])]), Ok("insert [Some(\"a\"), None]"));
    check(
        b'f',
        change(b'U', 1, &[(b'O', &[A, A]), (b'N', &[A, B])]),
        Ok("update Some([Some(\"a\"), Some(\"a\")]) to [Some(\"a\"), Some(\"b\")]"),
    );
    check(
        b'f',
        change(b'U', 1, &[(b'O', &[A, B]), (b'N', &[B, Value::Unchanged])]),
        Ok("update Some([Some(\"a\"), Some(\"b\")]) to [Some(\"b\"), Some(\"b\")]"),
    );
    check(
        b'f',
        change(b'U', 1, &[(b'N', &[A, B])]),
        Ok("update None to [Some(\"a\"), Some(\"b\")]"),
    );
    check(b'f', change(b'D', 1, &[(b'O', &[A, B])]), Ok("delete [Some(\"a\"), Some(\"b\")]"));
    check(b'f', truncate(3, &[1]), Ok("truncate"));
    check(b'f', truncate(0, &[1, 1]), Ok("truncate; truncate"));
    check(b'f', Bytes::from_static(b"O\0\0\0\0\0\0\0\x01origin\0"), Ok(""));
    check(b'f', Bytes::from_static(b"Y\0\0\0\x01public\0mood\0"), Ok(""));
    check(b'f', Bytes::from_static(b"M\x01\0\0\0\0\0\0\0\x01p\0\0\0\0\x01x"), Ok(""));

    check(b'f', change(b'U', 1, &[(b'N', &[A, Value::Unchanged])]), Ok("?"));
    check(b'd', change(b'U', 1, &[(b'N', &[A, B])]), Ok("?"));
    check(b'd', change(b'U', 1, &[(b'K', &[A, Value::Null]), (b'N', &[B, B])]), Ok("?"));
    check(b'd', change(b'D', 1, &[(b'K', &[A, Value::Null])]), Ok("?"));
    check(b'd', change(b'I', 1, &[(b'N', &[A, B])]), Ok("insert [Some(\"a\"), Some(\"b\")]"));

    check(b'f', change(b'I', 9, &[(b'N', &[A, B])]), Err("unknown relation 9"));
    check(b'f', change(b'I', 1, &[(b'N', &[A])]), Err("1 columns for a table of 2"));
    check(b'f', change(b'I', 1, &[(b'N', &[Value::Text(b"\xff"), B])]), Err("UTF-8"));
    check(b'f', change(b'I', 1, &[(b'O', &[A, B])]), Err("kind 'O'"));
    check(b'f', truncate(4, &[1]), Err("options 4"));
    check(b'x', truncate(0, &[]), Err("unknown replica identity"));
    check(b'f', Bytes::from_static(b"S"), Err("kind 'S'"));
    check(b'f', Bytes::new(), Err("ends early"));
    check(b'f', begin(), Err("inside another"));
}

#[test]
fn a_transaction_carries_its_lsn_its_xid_and_its_commit() {
    let mut decoder = Decoder::new();
    assert!(!decoder.in_transaction());
    let table = relation(1, "t", b'f', &["id"]);
    let insert = change(b'I', 1, &[(b'N', &[A])]);
    let messages = [begin(), table, insert.clone(), insert, commit()];
    let fragments = feed(&mut decoder, &messages).unwrap();
    assert_eq!(fragments.len(), 1);
    let fragment = &fragments[0];
    assert_eq!((fragment.commit_lsn, fragment.xid, fragment.first), (Lsn(COMMIT_LSN), 742, true));
    assert_eq!(fragment.commit, Some(Commit { end_lsn: Lsn(COMMIT_LSN + 0x30), time_us: 7 }));
    assert_eq!(fragment.byte_count, messages.iter().map(Bytes::len).sum::<usize>());
    let indexes: Vec<_> = fragment.changes.iter().map(|change| change.op_index).collect();
    assert_eq!(indexes, [0, 2]);
}

#[test]
fn a_change_outside_a_transaction_is_refused() {
    let mut decoder = Decoder::new();
    decoder.feed(&relation(1, "t", b'f', &["id"])).unwrap();
    assert!(decoder.feed(&change(b'I', 1, &[(b'N', &[A])])).is_err());
    assert!(decoder.feed(&commit()).is_err());
}

#[test]
fn a_large_transaction_comes_in_fragments() {
    let mut decoder = Decoder::new();
    let mut messages = vec![begin(), relation(1, "t", b'f', &["id"])];
    let insert = change(b'I', 1, &[(b'N', &[A])]);
    messages.extend(std::iter::repeat_n(insert, FRAGMENT_CHANGES + 1));
    messages.push(commit());
    let fragments = feed(&mut decoder, &messages).unwrap();
    let sizes: Vec<_> = fragments.iter().map(|fragment| fragment.changes.len()).collect();
    assert_eq!(sizes, [FRAGMENT_CHANGES, 1]);
    assert_eq!((fragments[0].first, fragments[1].first), (true, false));
    assert!(fragments[0].commit.is_none() && fragments[1].commit.is_some());
    assert_eq!(fragments[1].changes[0].op_index, 2 * FRAGMENT_CHANGES as u64);

    let long = vec![b'x'; FRAGMENT_BYTES];
    let insert = change(b'I', 1, &[(b'N', &[Value::Text(&long)])]);
    let fragments = feed(&mut decoder, &[begin(), insert, commit()]).unwrap();
    let sizes: Vec<_> = fragments.iter().map(|fragment| fragment.changes.len()).collect();
    assert_eq!(sizes, [1, 0]);
}

#[test]
fn a_repeated_relation_is_the_same_one() {
    let mut decoder = Decoder::new();
    let insert = change(b'I', 1, &[(b'N', &[A])]);
    let table = relation(1, "t", b'f', &["id"]);
    let renamed = relation(1, "t", b'f', &["key"]);
    let messages = [begin(), table.clone(), insert.clone(), table, insert.clone(), renamed, insert];
    feed(&mut decoder, &messages).unwrap();
    let changes = decoder.feed(&commit()).unwrap().unwrap().changes;
    assert!(Arc::ptr_eq(&changes[0].relation, &changes[1].relation));
    assert_eq!(changes[2].relation.columns[0].name, "key");
}

#[test]
fn a_change_without_its_old_row_is_incomplete_and_the_stream_goes_on() {
    let (full, key) = (relation(1, "t", b'f', &["id"]), relation(1, "t", b'd', &["id"]));
    let insert = change(b'I', 1, &[(b'N', &[A])]);
    let delete = change(b'D', 1, &[(b'K', &[A])]);
    let update = change(b'U', 1, &[(b'N', &[A])]);
    let messages = [begin(), key, insert.clone(), delete, update, full, insert, commit()];
    let fragments = feed(&mut Decoder::new(), &messages).unwrap();
    let kinds = fragments[0].changes.iter().map(|change| match change.operation {
        Operation::Insert { .. } => (change.op_index, 'I'),
        Operation::Incomplete => (change.op_index, '?'),
        Operation::Update { .. } | Operation::Delete { .. } | Operation::Truncate => {
            (change.op_index, '!')
        }
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [(0, 'I'), (2, '?'), (4, '?'), (6, 'I')]);
}

#[test]
fn every_message_cut_short_is_an_error() {
    let table = relation(1, "t", b'f', &["id", "v"]);
    let whole = [
        begin(),
        commit(),
        table.clone(),
        change(b'I', 1, &[(b'N', &[A, B])]),
        change(b'U', 1, &[(b'O', &[A, B]), (b'N', &[A, B])]),
        change(b'D', 1, &[(b'O', &[A, B])]),
        truncate(0, &[1]),
    ];
    for message in whole {
        for length in 0..message.len() {
            let mut decoder = Decoder::new();
            decoder.feed(&table).unwrap();
            if message[0] != b'B' {
                decoder.feed(&begin()).unwrap();
            }
            let kind = message[0] as char;
            assert!(decoder.feed(&message.slice(..length)).is_err(), "{kind} of {length} bytes");
        }
    }
}

fn message() -> impl Strategy<Value = Bytes> {
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        Just(A),
        Just(B),
        Just(Value::Text(b"\xff"))
    ];
    let row = prop::collection::vec(value, 0..4);
    let tag = prop_oneof![Just(b'N'), Just(b'O'), Just(b'K'), any::<u8>()];
    let kind = prop_oneof![Just(b'I'), Just(b'U'), Just(b'D')];
    prop_oneof![
        Just(begin()),
        Just(commit()),
        (0..3u32, prop_oneof![Just(b'f'), Just(b'd'), any::<u8>()])
            .prop_map(|(oid, identity)| relation(oid, "t", identity, &["id", "v"])),
        (kind, 0..3u32, prop::collection::vec((tag, row), 0..3)).prop_map(|(kind, oid, rows)| {
            let rows: Vec<_> = rows.iter().map(|(tag, row)| (*tag, row.as_slice())).collect();
            change(kind, oid, &rows)
        }),
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from),
    ]
}

proptest! {
    #[test]
    fn no_input_makes_the_decoder_panic(
        messages in prop::collection::vec((message(), any::<u16>(), any::<u8>()), 1..12)
    ) {
        let mut decoder = Decoder::new();
        for (message, at, byte) in messages {
            let mut damaged = message.to_vec();
            if let Some(target) = damaged.get_mut(usize::from(at)) {
                *target = byte;
            }
            let _ = decoder.feed(&Bytes::from(damaged));
        }
    }
}
