//! Lists the platforms: every file of `src/platforms/` becomes a module and a line of the registry,
//! so that a new platform is one new file. `src/platforms/mod.rs` says what such a file has.

use std::path::{Path, PathBuf};
use std::{env, error, fs};

/// Files there that are not a platform each, but serve all of them.
const COMMON: [&str; 7] = [
    "mod", "choose", "cron", "section", "settle", "tests", "webapp",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let folder = root.join("src/platforms");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let modules = modules(&folder)?;
    let mut text = String::new();
    for name in &modules {
        let file = folder.join(format!("{name}.rs"));
        text += &format!("#[path = {file:?}]\npub mod r#{name};\n");
    }
    let rows: Vec<String> = modules
        .iter()
        .map(|name| format!("r#{name}::PLATFORM"))
        .collect();
    text += "/// Every platform, in the order of the files.\n";
    text += &format!(
        "pub(crate) static PLATFORMS: [Platform; {}] = [{}];\n",
        rows.len(),
        rows.join(", ")
    );
    fs::write(Path::new(&env::var("OUT_DIR")?).join("platforms.rs"), text)?;
    Ok(())
}

/// The names of the platforms' modules, sorted. A folder belongs to the file of its name.
fn modules(folder: &Path) -> Result<Vec<String>, Box<dyn error::Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        if path.extension().is_some_and(|ext| ext == "rs") && !COMMON.contains(&name) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
