//! Removing a shape's files (invariant I-10).
//!
//! Renamed first, so that it is gone at once and as a whole, then deleted. A
//! reader that is at it finds no file, or goes on with the one it has open.

use std::collections::HashSet;

use shape::Handle;

use crate::directory::Directory;
use crate::error::Error;

const TRASH: &str = ".trash-";

/// Can be repeated after a crash at any point, and when there is nothing left.
pub fn remove_shape(directory: &Directory, handle: &Handle) -> Result<(), Error> {
    let (disk, shapes) = (directory.disk(), directory.shapes_path());
    let trash = shapes.join(format!("{TRASH}{handle}"));
    // A handle is never reused, so what lies there is the rest of this shape.
    disk.remove_dir_all(&trash)?;
    match disk.rename(&directory.shape_path(handle), &trash) {
        Ok(()) => disk.sync_dir(&shapes)?,
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    disk.remove_dir_all(&trash)
}

/// Shapes that have files, or the rest of a removal, but are not known.
pub fn orphans(directory: &Directory, known: &HashSet<Handle>) -> Result<Vec<Handle>, Error> {
    let mut found = HashSet::new();
    for name in directory.disk().list(&directory.shapes_path())? {
        let (name, is_trash) = match name.strip_prefix(TRASH) {
            Some(rest) => (rest, true),
            None => (name.as_str(), false),
        };
        if let Ok(handle) = name.parse::<Handle>()
            && (is_trash || !known.contains(&handle))
        {
            found.insert(handle);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_removal_can_be_resumed_from_any_of_its_steps() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let [kept, whole, renamed]: [Handle; 3] =
            ["1-1", "2-2", "3-3"].map(|text| text.parse().unwrap());
        for name in ["1-1", "2-2", ".trash-3-3"] {
            let path = directory.shapes_path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("log.0"), "x").unwrap();
        }
        let known = HashSet::from([kept]);
        assert_eq!(orphans(&directory, &known).unwrap(), [whole.clone(), renamed.clone()]);
        for handle in [&whole, &renamed, &whole] {
            remove_shape(&directory, handle).unwrap();
        }
        assert!(orphans(&directory, &known).unwrap().is_empty());
        assert!(directory.shapes_path().join("1-1/log.0").exists());
        assert_eq!(fs::read_dir(directory.shapes_path()).unwrap().count(), 1);
    }
}
