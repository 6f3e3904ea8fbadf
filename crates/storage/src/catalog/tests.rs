use std::fs;
use std::sync::Arc;

use change::{ReplicaIdentity, Table, TableColumn, TableKind};
use shape::{LogMode, Replica};

use super::*;
use crate::file::tests::Faults;

pub(crate) fn shape(number: u64) -> ShapeRecord {
    let column = TableColumn {
        name: "id".into(),
        type_oid: 23,
        type_name: "int4".into(),
        type_mod: -1,
        dims: 0,
        not_null: true,
        pk_position: Some(0),
        generated: false,
    };
    let table = Table {
        oid: 16_384,
        schema: "public".into(),
        name: "items".into(),
        kind: TableKind::Ordinary,
        identity: ReplicaIdentity::Full,
        columns: vec![column],
    };
    ShapeRecord {
        handle: handle(number),
        definition: Definition::new(&table, None, Replica::Default, LogMode::Full).unwrap(),
        registered_lsn: Lsn(u64::MAX - number),
        snapshot_lsn: Lsn(number),
        snapshot: None,
        created_us: 5,
    }
}

fn handle(number: u64) -> Handle {
    Handle::new("items", number)
}

fn source() -> Source {
    Source { system_id: u64::MAX, timeline: 1, slot: "s".into(), publication: "p".into() }
}

struct Fixture {
    _dir: tempfile::TempDir,
    directory: Directory,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    Fixture { _dir: dir, directory }
}

fn contents(fixture: &Fixture) -> Contents {
    Catalog::open(&fixture.directory).unwrap().1
}

#[test]
fn what_was_applied_is_there_after_a_reopen() {
    let fixture = fixture();
    let (mut catalog, empty) = Catalog::open(&fixture.directory).unwrap();
    assert_eq!(empty, Contents::default());
    let visibility: Visibility = "5:9:7".parse().unwrap();
    catalog.apply(&[CatalogChange::Source(source())]).unwrap();
    catalog.apply(&[]).unwrap();
    catalog.apply(&[1, 2, 3, 4].map(|number| CatalogChange::Created(shape(number)))).unwrap();
    catalog
        .apply(&[
            CatalogChange::SnapshotComplete { handle: handle(2), visibility: visibility.clone() },
            CatalogChange::Tombstone(handle(1)),
            CatalogChange::Tombstone(handle(1)),
            CatalogChange::Tombstone(handle(3)),
        ])
        .unwrap();
    catalog.apply(&[CatalogChange::Removed(handle(3))]).unwrap();
    drop(catalog);

    let expected = Contents {
        source: Some(source()),
        shapes: vec![ShapeRecord { snapshot: Some(visibility), ..shape(2) }, shape(4)],
        tombstones: vec![handle(1)],
    };
    assert_eq!(contents(&fixture), expected);
    assert_eq!(contents(&fixture), expected);
}

#[test]
fn a_torn_batch_is_undone_as_a_whole() {
    let fixture = fixture();
    let path = fixture.directory.catalog_path();
    let (mut catalog, _) = Catalog::open(&fixture.directory).unwrap();
    catalog.apply(&[CatalogChange::Created(shape(1))]).unwrap();
    let first_bytes = catalog.byte_count() as usize;
    catalog.apply(&[2, 3].map(|number| CatalogChange::Created(shape(number)))).unwrap();
    drop(catalog);
    let bytes = fs::read(&path).unwrap();
    for cut in first_bytes..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        assert_eq!(contents(&fixture).shapes, [shape(1)], "cut at {cut}");
        assert_eq!(fs::read(&path).unwrap().len(), first_bytes);
    }
    // It goes on where it was cut.
    let (mut catalog, _) = Catalog::open(&fixture.directory).unwrap();
    catalog.apply(&[CatalogChange::Created(shape(4))]).unwrap();
    drop(catalog);
    assert_eq!(contents(&fixture).shapes, [shape(1), shape(4)]);
}

#[test]
fn damage_before_later_changes_is_refused_and_nothing_is_changed() {
    let fixture = fixture();
    let path = fixture.directory.catalog_path();
    let (mut catalog, _) = Catalog::open(&fixture.directory).unwrap();
    for number in 1..4 {
        catalog.apply(&[CatalogChange::Created(shape(number))]).unwrap();
    }
    drop(catalog);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let error = Catalog::open(&fixture.directory).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn any_flipped_bit_is_noticed() {
    let fixture = fixture();
    let path = fixture.directory.catalog_path();
    let (mut catalog, _) = Catalog::open(&fixture.directory).unwrap();
    catalog.apply(&[CatalogChange::Source(source())]).unwrap();
    drop(catalog);
    let bytes = fs::read(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        match Catalog::open(&fixture.directory) {
            Ok((_, found)) => assert_eq!(found, Contents::default(), "bit {bit}"),
            Err(error) => assert!(matches!(error, Error::Damaged { .. }), "bit {bit}: {error}"),
        }
    }
}

#[test]
fn garbage_is_compacted_at_open() {
    let fixture = fixture();
    let (mut catalog, _) = Catalog::open(&fixture.directory).unwrap();
    catalog.apply(&[CatalogChange::Source(source())]).unwrap();
    let kept: Vec<_> =
        (0..600).map(|number| CatalogChange::Created(shape(1_000_000 + number))).collect();
    for round in 0..4 {
        let numbers = round * 600..(round + 1) * 600;
        let created: Vec<_> = numbers.clone().map(|n| CatalogChange::Created(shape(n))).collect();
        let removed: Vec<_> = numbers.map(|n| CatalogChange::Removed(handle(n))).collect();
        catalog.apply(&created).unwrap();
        catalog.apply(&removed).unwrap();
    }
    catalog.apply(&kept).unwrap();
    catalog.apply(&[CatalogChange::Tombstone(handle(1_000_000))]).unwrap();
    let before_bytes = catalog.byte_count();
    drop(catalog);
    let found = contents(&fixture);
    let (catalog, again) = Catalog::open(&fixture.directory).unwrap();
    assert_eq!(found, again);
    assert_eq!((found.shapes.len(), found.tombstones.len()), (599, 1));
    assert!(catalog.byte_count() < before_bytes / 2, "{} of {before_bytes}", catalog.byte_count());
}

#[test]
fn a_missing_catalog_is_not_an_empty_one() {
    let fixture = fixture();
    let (mut catalog, _) = Catalog::open(&fixture.directory).unwrap();
    catalog.apply(&[CatalogChange::Created(shape(1))]).unwrap();
    drop(catalog);
    fixture.directory.create_shape_dir(&handle(1)).unwrap();
    fs::remove_file(fixture.directory.catalog_path()).unwrap();
    for _ in 0..2 {
        let error = Catalog::open(&fixture.directory).unwrap_err();
        assert!(matches!(error, Error::Damaged { pos: 0, .. }), "{error}");
    }
}

#[test]
fn a_catalog_whose_fsync_failed_is_written_anew_when_it_is_opened_again() {
    use std::os::unix::fs::MetadataExt;

    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::default());
    let directory = Directory::open_on(dir.path(), Arc::new(faults.clone())).unwrap();
    let fixture = Fixture { _dir: dir, directory };
    let inode = || fs::metadata(fixture.directory.catalog_path()).unwrap().ino();
    let (mut catalog, _) = Catalog::open(&fixture.directory).unwrap();
    let first = inode();
    faults.fail_syncs(1);
    catalog.apply(&[CatalogChange::Created(shape(1))]).unwrap_err();
    // The page cache has it, the disk perhaps not, and another fsync is no news.
    assert_eq!(contents(&fixture).shapes, [shape(1)]);
    assert_ne!(inode(), first);
    let second = inode();
    assert_eq!(contents(&fixture).shapes, [shape(1)]);
    assert_eq!(inode(), second, "once is enough");
}
