//! The table at the end, and whether all went well.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use super::{Fate, Kernel, outcome::Outcome};

/// Prints what failed and then one line for each kernel. An error if a test failed or a machine did
/// not come to its end; a kernel that could not be had is only said.
pub fn print(kernels: &[Kernel], fates: &[Fate], folder: &Path) -> Result<()> {
    for (kernel, fate) in kernels.iter().zip(fates) {
        if let Fate::Ran { outcome, .. } = fate {
            print_failures(kernel, outcome, folder);
        }
    }
    println!();
    println!(
        "{:<8} {:<28} {:>21} {:>7} {:>7} {:>8} {:>9}",
        "kernel", "release", "verified instructions", "passed", "failed", "skipped", "wall"
    );
    let mut bad = Vec::new();
    for (kernel, fate) in kernels.iter().zip(fates) {
        match fate {
            Fate::Skipped(why) => println!("{kernel:<8} skipped: {why}"),
            Fate::Ran { outcome, wall } => {
                let counts = outcome.counts();
                let verified = outcome.most_verified().map_or_else(
                    || "none".to_owned(),
                    |(inward, outward)| format!("{inward} + {outward}"),
                );
                println!(
                    "{kernel:<8} {:<28} {verified:>21} {:>7} {:>7} {:>8} {:>7.0} s{}",
                    outcome.release.as_deref().unwrap_or("did not come up"),
                    counts.passed,
                    counts.failed,
                    counts.skipped,
                    wall.as_secs_f64(),
                    if outcome.finished {
                        ""
                    } else {
                        "  NOT FINISHED"
                    },
                );
                if !outcome.is_good() {
                    bad.push(kernel.version);
                }
            }
        }
    }
    println!("(verified instructions: of the largest policy, inbound + outbound)");
    println!(
        "(results.md in {} has each file of tests)",
        folder.display()
    );
    if !bad.is_empty() {
        bail!("not all is well on {}", bad.join(", "));
    }
    Ok(())
}

fn print_failures(kernel: &Kernel, outcome: &Outcome, folder: &Path) {
    let place = folder.join("runs").join(kernel.version);
    for program in &outcome.programs {
        if program.counts.failed > 0 {
            println!("--- {kernel}: {}", program.name);
            println!("{}", program.output.trim());
        }
        for why in program.reasons() {
            println!("--- {kernel}: {}: skipped: {why}", program.name);
        }
    }
    if !outcome.finished {
        println!("--- {kernel}: the machine went before its end; the kernel's last words:");
        let words = fs::read(place.join("console.log")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let last: Vec<&str> = words.lines().rev().take(20).collect();
        for line in last.into_iter().rev() {
            println!("{line}");
        }
    }
    if !outcome.is_good() {
        println!("--- {kernel}: all output is in {}", place.display());
    }
}
