//! `prospect schemas`: writes the JSON Schemas of the YAML files, kept in `schemas/` for editors.

use std::{io::Write, path::PathBuf};

use prospect_core::files::write_whole;
use strum::VariantArray;

use crate::{kind::FileKind, output};

/// Arguments of `prospect schemas`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Output directory
    #[arg(value_name = "DIR", default_value = "schemas")]
    out: PathBuf,
}

/// Writes one schema per kind of file and prints their paths.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    for kind in FileKind::VARIANTS {
        let path = args.out.join(format!("{kind}.schema.json"));
        let text = format!("{:#}\n", kind.schema().as_value());
        write_whole(&path, |file| file.write_all(text.as_bytes()))?;
        output::print(path.display())?;
    }
    Ok(())
}
