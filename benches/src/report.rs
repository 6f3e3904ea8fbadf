//! The table that is printed at the end.

use std::fmt;

#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<(String, String, String)>,
}

impl Report {
    pub(crate) fn add(&mut self, what: &str, figure: String, goal: &str) {
        // As it comes, too: a run takes minutes.
        println!("{what}: {figure}");
        self.lines.push((what.into(), figure, goal.into()));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| what | figure | goal |\n|---|---|---|")?;
        for (what, figure, goal) in &self.lines {
            writeln!(f, "| {what} | {figure} | {goal} |")?;
        }
        Ok(())
    }
}

/// The value below which `share` (0 to 1) of `sorted` lies.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
