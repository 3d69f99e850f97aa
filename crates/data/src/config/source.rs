//! The `source` section of a recipe, as written and resolved.

use std::{borrow::Cow, fmt, sync::OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use crate::{
    DataError,
    config::{
        judgement_choice::{self, Names},
        limit::Limit,
        locate::Locate,
        sniff::{Detected, sniff},
        source_kind::SourceKind,
    },
    ingest::{
        records::{CsvFormat, FileFormat, TextEncoding, is_table},
        sources::{
            Better, Binarise, BothBad, Columns, Oasst, RankPairing, RecordField, ResolvedSource,
            ResolvedSources, Several, Shp, SourceFormat, Synthetic, ThumbWords, WorldFile,
            chats::Chats,
            comparisons::ComparisonsFormat,
            files::{self, HashedFiles},
            labels::LabelsFormat,
            pairs::PairsFormat,
            scores::ScoresFormat,
        },
    },
    table::group_salt::GroupSalt,
};

/// Subset of HH, selected by folder name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum HhPart {
    /// Folders whose names begin with `helpful`.
    Helpful,
    /// Folders whose names begin with `harmless`.
    Harmless,
}

/// A source as written. A setting that does not apply to the kind is an error.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceFile {
    /// Kind of the source; detected from the first records if not given.
    kind: Option<SourceKind>,
    /// Path of a file or folder, or the `hf://` address of either. Required for all kinds but
    /// `synthetic`.
    path: Option<String>,
    /// Files of a folder to read, as patterns in which `*` stands for any text; all if not given.
    files: Option<Vec<String>>,
    /// Character encoding of text files; detected if not given.
    encoding: Option<TextEncoding>,
    /// CSV and TSV files: delimiter and quoting, if not as detected.
    csv: Option<CsvFormat>,
    /// Value of the `source` column; the kind if not given.
    name: Option<String>,
    /// Value of the `domain` column for records without a domain.
    domain: Option<String>,
    /// Domains to keep (SHP's subreddits, HH's folders, or values of `columns.domain`); all if not
    /// given.
    domains: Option<Vec<String>>,
    /// HH: subset to use; all if not given.
    only: Option<HhPart>,
    /// SHP: smallest ratio of the higher to the lower score in training rows (2).
    min_score_ratio: Option<f64>,
    /// SHP: most training pairs per post (5); null for no limit.
    max_pairs_per_post: Limit<usize>,
    /// OASST and ranks: ranks that form pairs (adjacent).
    ranks: Option<RankPairing>,
    /// OASST: required language of every message in a conversation (en); null for any.
    language: Limit<String>,
    /// OASST: keep only messages that passed review (false).
    only_reviewed: Option<bool>,
    /// OASST: drop deleted messages (false).
    drop_deleted: Option<bool>,
    /// OASST: drop messages written by a model (false).
    drop_synthetic: Option<bool>,
    /// OASST: rating used as a reply's score, for example `quality`; minus its rank if not given.
    rating: Option<String>,
    /// The user's own data: mapping from fields to column or key names.
    columns: Columns,
    /// Labels: words for thumbs up, thumbs down and no judgement, besides the built-in ones.
    words: ThumbWords,
    /// Chats and judgements: a second file or folder. It holds the thumbs of the conversations, or
    /// the traces that were judged.
    join: Option<String>,
    /// Comparisons and judgements: meaning of the verdicts.
    better: Better,
    /// Comparisons and judgements: meaning of "both are bad" (tie).
    both_bad: Option<BothBad>,
    /// Judgements: name of the judgement to learn from, or several; needed if people gave more than
    /// one.
    judgement: Names,
    /// Judgements: policy for several judgements of one reply (unanimous).
    several: Option<Several>,
    /// Judgements: use the judgements of models like those of people (false).
    machines: Option<bool>,
    /// Chats: prefer replies with a thumb up to the unrated replies to the same message (false).
    unrated_siblings_lose: Option<bool>,
    /// Scores: merge consecutive records of one prompt, whose completions then can form a pair
    /// (false).
    merge_prompts: Option<bool>,
    /// Rule that turns scores into labels. Pairs and ranks remain pairs.
    binarise: Option<Binarise>,
    /// Synthetic: number of pairs to generate.
    pairs: Option<usize>,
    /// Synthetic: world that the feedback is generated from (topics, annotators, noise).
    world: Option<WorldFile>,
}

/// The `source` section as written: one source or a list.
#[derive(Debug, Clone)]
pub struct SourceFiles(Vec<SourceFile>);

impl<'de> Deserialize<'de> for SourceFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Vec<SourceFile>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a source or a list of sources")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(vec![SourceFile::deserialize(de::value::MapAccessDeserializer::new(map))?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))
            }
        }

        deserializer.deserialize_any(OneOrMany).map(Self)
    }
}

impl JsonSchema for SourceFiles {
    fn schema_name() -> Cow<'static, str> {
        "SourceFiles".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<SourceFile>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Messages from resolving sources.
#[derive(Debug, Default)]
pub(crate) struct ResolveNotes {
    /// Findings for the user to check.
    pub(crate) notes: Vec<String>,
    /// Possible surprises.
    pub(crate) warnings: Vec<String>,
}

impl SourceFiles {
    /// Checks everything that does not need the files.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let synthetic = self.0.iter().filter(|source| source.kind == Some(SourceKind::Synthetic)).count();
        if self.0.is_empty() || synthetic > 1 {
            let (key, value) = ("source".into(), self.0.len().to_string() + " sources");
            let message = "at least one source is needed, and at most one of kind synthetic";
            return Err(DataError::Value { key, value, message });
        }
        self.0.iter().enumerate().try_for_each(|(index, source)| {
            source.check().map_err(|error| error.in_list(self.0.len(), index))
        })
    }

    /// Returns whether a source maps a field to a column.
    pub(crate) fn maps(&self, field: RecordField) -> bool {
        self.0.iter().any(|source| source.columns.mapping(field).is_some())
    }

    /// Finds and hashes the files of every source.
    pub(crate) fn resolve(
        self,
        seed: u64,
        locate: &Locate<'_>,
    ) -> Result<(ResolvedSources, ResolveNotes), DataError> {
        let mut notes = ResolveNotes::default();
        let count = self.0.len();
        let mut resolve = |(index, source): (usize, SourceFile)| {
            source.resolve(seed, locate, &mut notes).map_err(|error| error.in_list(count, index))
        };
        let sources: Vec<ResolvedSource> =
            self.0.into_iter().enumerate().map(&mut resolve).collect::<Result<_, _>>()?;
        Ok((ResolvedSources(sources), notes))
    }
}

impl SourceFile {
    fn check(&self) -> Result<(), DataError> {
        if self.kind != Some(SourceKind::Synthetic) {
            self.address()?;
        }
        self.words.check()?;
        self.better.check()?;
        match self.kind {
            Some(kind) => self.check_as(kind),
            None => self.binarise.map_or(Ok(()), |policy| policy.check()),
        }
    }

    /// Checks the settings against `kind`.
    fn check_as(&self, kind: SourceKind) -> Result<(), DataError> {
        self.refuse_idle(kind)?;
        self.better.check()?;
        if let Some(policy) = &self.binarise {
            policy.check()?;
        }
        // A conversation holds all that the kind reads; who judged and when is outside of it.
        let used = [RecordField::Group, RecordField::Time];
        if kind == SourceKind::Chats && self.columns.other_than(&used).is_some() {
            let message = "of chats, only `group` and `time` can be mapped; remove the others";
            return Err(DataError::Value {
                key: "source.columns".into(),
                value: "given".to_owned(),
                message,
            });
        }
        if let Some(world) = &self.world {
            world.check(self.pairs.unwrap_or_default())?;
        }
        if kind == SourceKind::Scores && self.binarise.is_none() {
            let message = "scores need a rule that turns them into labels, for example `{by: best_and_worst}` or \
                           `{by: mean, over: prompt}`";
            let (key, value) = ("source.binarise".into(), "not given".to_owned());
            return Err(DataError::Value { key, value, message });
        }
        if let Some(ratio) = self.min_score_ratio
            && !(ratio.is_finite() && ratio >= 1.0)
        {
            let (key, value) = ("source.min_score_ratio".into(), ratio.to_string());
            return Err(DataError::Value { key, value, message: "must be a number of at least 1" });
        }
        Ok(())
    }

    fn address(&self) -> Result<&str, DataError> {
        self.path.as_deref().ok_or_else(|| {
            let message = "a file, a folder or an hf:// address is needed";
            DataError::Value { key: "source.path".into(), value: "not given".to_owned(), message }
        })
    }

    fn resolve(
        self,
        seed: u64,
        locate: &Locate<'_>,
        notes: &mut ResolveNotes,
    ) -> Result<ResolvedSource, DataError> {
        let (detected, mut inputs) = self.find(locate, notes)?;
        let kind = detected.kind;
        self.check_as(kind)?;
        if let Some(address) = &self.join {
            let joined = self.find_files("source.join", address, locate)?;
            inputs.files.extend(joined.files);
            inputs.warnings.extend(joined.warnings);
        }
        let Self { mut columns, mut better, words, binarise, .. } = self;
        if let Some(layout) = detected.layout.filter(|_| columns.mapping(RecordField::First).is_none()) {
            columns = columns.or(layout.columns.iter().copied());
            if better.is_empty() {
                better = layout.better();
            }
        }
        let both_bad = self.both_bad.unwrap_or_default();
        let reader = match kind {
            SourceKind::Hh => SourceFormat::Hh,
            SourceKind::Shp => {
                let ratio = self.min_score_ratio.unwrap_or(2.0);
                SourceFormat::Shp(Shp::new(ratio, self.max_pairs_per_post.or(5), seed))
            }
            SourceKind::Oasst => SourceFormat::Oasst(Oasst {
                ranks: self.ranks.unwrap_or_default(),
                language: self.language.or("en".to_owned()),
                only_reviewed: self.only_reviewed.unwrap_or_default(),
                drop_deleted: self.drop_deleted.unwrap_or_default(),
                drop_synthetic: self.drop_synthetic.unwrap_or_default(),
                rating: self.rating,
            }),
            SourceKind::Pairs => SourceFormat::Pairs(PairsFormat { columns }),
            SourceKind::Labels => SourceFormat::Labels(LabelsFormat { columns, words }),
            SourceKind::Scores => SourceFormat::Scores(ScoresFormat {
                columns,
                ranks: None,
                merge_prompts: self.merge_prompts.unwrap_or_default(),
            }),
            SourceKind::Ranks => SourceFormat::Ranks(ScoresFormat {
                columns,
                ranks: Some(self.ranks.unwrap_or_default()),
                merge_prompts: false,
            }),
            SourceKind::Comparisons => {
                SourceFormat::Comparisons(ComparisonsFormat { columns, better, both_bad, words })
            }
            SourceKind::Chats => SourceFormat::Chats(Chats {
                columns,
                words,
                unrated_siblings_lose: self.unrated_siblings_lose.unwrap_or_default(),
            }),
            SourceKind::Judgements => {
                let choice = judgement_choice::Choice {
                    names: self.judgement,
                    columns,
                    several: self.several.unwrap_or_default(),
                    machines: self.machines.unwrap_or_default(),
                    better,
                    both_bad,
                    words,
                    scored: binarise.is_some(),
                };
                choice.resolve(&inputs.files, &mut notes.notes)?
            }
            SourceKind::Synthetic => SourceFormat::Synthetic(Synthetic {
                pairs: self.pairs.unwrap_or_default(),
                seed,
                world: self.world.unwrap_or_default().resolve(),
            }),
        };
        let name = self.name.unwrap_or_else(|| kind.to_string());
        notes.warnings.extend(inputs.warnings.into_iter().map(|warning| format!("source {name}: {warning}")));
        Ok(ResolvedSource {
            name,
            reader,
            domain: self.domain,
            domains: self.domains.unwrap_or_default(),
            binarise,
            files: inputs.files,
            seed,
            salt: GroupSalt::from_seed(seed),
            rule: OnceLock::new(),
        })
    }

    /// Finds the files at an address, which `key` gives.
    fn find_files(
        &self,
        key: &'static str,
        address: &str,
        locate: &Locate<'_>,
    ) -> Result<HashedFiles, DataError> {
        let path = locate(address).map_err(|source| DataError::Locate { key: key.into(), source })?;
        let format = FileFormat { encoding: self.encoding, csv: self.csv.unwrap_or_default() };
        let chosen = |file: &str| {
            self.files
                .as_ref()
                .is_none_or(|patterns| patterns.iter().any(|pattern| files::matches(pattern, file)))
        };
        files::find(address, &path, format, |folder, file| self.wants(folder) && chosen(file))
    }

    /// Finds the files, and detects the kind if it is not given.
    fn find(
        &self,
        locate: &Locate<'_>,
        notes: &mut ResolveNotes,
    ) -> Result<(Detected, HashedFiles), DataError> {
        if self.kind == Some(SourceKind::Synthetic) {
            return Ok((Detected::new(SourceKind::Synthetic), HashedFiles::default()));
        }
        let address = self.address()?;
        let inputs = self.find_files("source.path", address, locate)?;
        if self.csv.is_some() && !inputs.files.iter().any(|file| is_table(&file.name())) {
            let message = "no file of the source is a CSV or TSV table; remove it";
            return Err(DataError::Value { key: "source.csv".into(), value: "given".to_owned(), message });
        }
        if !inputs.metadata.is_empty() {
            notes.notes.push(format!("{address}: not read, as metadata: {}", inputs.metadata.join(", ")));
        }
        let Some(file) = inputs.files.first() else {
            let (file, found) = (address.into(), "no file".to_owned());
            return Err(DataError::UnknownKind { file, found, columns: Vec::new() });
        };
        let detected = match self.kind {
            // The layout of a known set names the columns that the recipe does not.
            Some(SourceKind::Comparisons) => sniff(file, &self.columns)
                .ok()
                .filter(|detected| detected.kind == SourceKind::Comparisons)
                .unwrap_or_else(|| Detected::new(SourceKind::Comparisons)),
            Some(kind) => Detected::new(kind),
            None => {
                let detected = sniff(file, &self.columns)?;
                let set = detected.name.map(|name| format!(", {name}")).unwrap_or_default();
                notes.notes.push(format!(
                    "{address} is of kind {}{set} (detected from {}: {})",
                    detected.kind,
                    file.name(),
                    detected.found
                ));
                detected
            }
        };
        Ok((detected, inputs))
    }

    /// Returns true if the files of a folder are read. HH's red-team transcripts are skipped: they
    /// hold no preferences.
    fn wants(&self, folder: &str) -> bool {
        let only = self.only.is_none_or(|only| folder.starts_with(<&str>::from(only)));
        let domain = match self.kind {
            Some(SourceKind::Hh | SourceKind::Shp) if !folder.is_empty() && self.domain.is_none() => {
                self.domains.as_ref().is_none_or(|domains| domains.iter().any(|domain| domain == folder))
            }
            _ => true,
        };
        only && domain && !folder.starts_with("red-team")
    }

    /// Rejects settings that do not apply to the kind.
    fn refuse_idle(&self, kind: SourceKind) -> Result<(), DataError> {
        use SourceKind::{
            Chats, Comparisons, Hh, Judgements, Labels, Oasst, Pairs, Ranks, Scores, Shp, Synthetic,
        };
        const COLUMNS: &[SourceKind] = &[Pairs, Labels, Scores, Ranks, Comparisons, Judgements, Chats];
        const FILES: &[SourceKind] =
            &[Hh, Shp, Oasst, Pairs, Labels, Scores, Ranks, Comparisons, Judgements, Chats];
        const DOMAINS: &[SourceKind] = &[Hh, Shp, Pairs, Labels, Scores, Ranks, Comparisons, Judgements];
        const SCORED: &[SourceKind] =
            &[Hh, Shp, Oasst, Pairs, Labels, Scores, Ranks, Comparisons, Judgements, Synthetic];
        // Setting, whether it is given, and the kinds that it applies to.
        let settings: [(&'static str, bool, &[SourceKind]); 27] = [
            ("path", self.path.is_some(), FILES),
            ("files", self.files.is_some(), FILES),
            ("encoding", self.encoding.is_some(), FILES),
            ("csv", self.csv.is_some(), FILES),
            ("domains", self.domains.is_some(), DOMAINS),
            ("only", self.only.is_some(), &[Hh]),
            ("min_score_ratio", self.min_score_ratio.is_some(), &[Shp]),
            ("max_pairs_per_post", self.max_pairs_per_post.is_given(), &[Shp]),
            ("ranks", self.ranks.is_some(), &[Oasst, Ranks]),
            ("language", self.language.is_given(), &[Oasst]),
            ("only_reviewed", self.only_reviewed.is_some(), &[Oasst]),
            ("drop_deleted", self.drop_deleted.is_some(), &[Oasst]),
            ("drop_synthetic", self.drop_synthetic.is_some(), &[Oasst]),
            ("rating", self.rating.is_some(), &[Oasst]),
            ("columns", !self.columns.is_empty(), COLUMNS),
            ("words", !self.words.is_empty(), &[Labels, Comparisons, Judgements, Chats]),
            ("join", self.join.is_some(), &[Chats, Judgements]),
            ("better", !self.better.is_empty(), &[Comparisons, Judgements]),
            ("both_bad", self.both_bad.is_some(), &[Comparisons, Judgements]),
            ("judgement", !self.judgement.is_empty(), &[Judgements]),
            ("several", self.several.is_some(), &[Judgements]),
            ("machines", self.machines.is_some(), &[Judgements]),
            ("unrated_siblings_lose", self.unrated_siblings_lose.is_some(), &[Chats]),
            ("merge_prompts", self.merge_prompts.is_some(), &[Scores]),
            ("binarise", self.binarise.is_some(), SCORED),
            ("pairs", self.pairs.is_some(), &[Synthetic]),
            ("world", self.world.is_some(), &[Synthetic]),
        ];
        match settings.into_iter().find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            Some((setting, ..)) => {
                Err(DataError::NoEffect { key: format!("source.{setting}").into(), kind: kind.into() })
            }
            None => Ok(()),
        }
    }
}
