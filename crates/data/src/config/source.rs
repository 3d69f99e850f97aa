//! `source` of a recipe: what a user writes, and what that resolves to.

use std::{borrow::Cow, fmt, sync::OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use crate::{
    DataError, Locate,
    sources::{
        Binarise, Columns, Oasst, Ranks, Reader, ResolvedSource, Shp, Sources, Synthetic, WorldFile,
        files::{self, Inputs},
        labels::Labels,
        pairs::Pairs,
        scores::Scores,
        sniff::sniff,
    },
};

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Transcripts in the format of Anthropic's HH.
    Hh,
    /// The Stanford Human Preferences dataset.
    Shp,
    /// OpenAssistant's trees or messages.
    Oasst,
    /// Pairs of one's own.
    Pairs,
    /// Completions of one's own with a label each.
    Labels,
    /// Completions of one's own with scores.
    Scores,
    /// Generated feedback whose true utility is known.
    Synthetic,
}

/// Part of HH, told by the names of its folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Only {
    /// Folders that begin with `helpful`.
    Helpful,
    /// Folders that begin with `harmless`.
    Harmless,
}

/// One source as written. Settings that the kind does not know are an error.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceFile {
    /// The kind; told from the first records if not given.
    kind: Option<Kind>,
    /// A file, a folder of files, or an `hf://` address of either. All but generated feedback needs one.
    path: Option<String>,
    /// What the `source` column says; the kind if not given.
    name: Option<String>,
    /// What the `domain` column says where the records do not.
    domain: Option<String>,
    /// The domains to keep (SHP's subreddits, HH's folders, or those of `columns.domain`); all if not given.
    domains: Option<Vec<String>>,
    /// HH: one part of it.
    only: Option<Only>,
    /// SHP: the smallest ratio of the two scores of a training row (2).
    min_score_ratio: Option<f64>,
    /// SHP: the most training pairs of one post (5); null for no limit.
    max_pairs_per_post: Limit<usize>,
    /// OASST: which ranks form pairs (adjacent).
    ranks: Option<Ranks>,
    /// OASST: the language of every message of a conversation (en); null for any.
    language: Limit<String>,
    /// OASST: only messages that passed review (false).
    only_reviewed: Option<bool>,
    /// OASST: without deleted messages (false).
    drop_deleted: Option<bool>,
    /// OASST: without messages that a model wrote (false).
    drop_synthetic: Option<bool>,
    /// OASST: the rating that is a reply's score, for example `quality`; minus its rank if not given.
    rating: Option<String>,
    /// One's own data: which column or key holds what.
    columns: Columns,
    /// How labels follow from scores. Pairs and ranks stay pairs.
    binarise: Option<Binarise>,
    /// Generated feedback: how many pairs.
    pairs: Option<usize>,
    /// Generated feedback: what it is about, who judges it and how.
    world: Option<WorldFile>,
}

/// A restriction that holds unless it is switched off with null.
#[derive(Debug, Clone, Default)]
enum Limit<T> {
    /// Not given.
    #[default]
    Usual,
    Off,
    To(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Off, Self::To))
    }
}

impl<T: JsonSchema> JsonSchema for Limit<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

impl<T> Limit<T> {
    fn is_given(&self) -> bool {
        !matches!(self, Self::Usual)
    }

    fn or(self, usual: T) -> Option<T> {
        match self {
            Self::Usual => Some(usual),
            Self::Off => None,
            Self::To(limit) => Some(limit),
        }
    }
}

/// `source` as written: one source or a list.
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

/// What resolving says beside its result.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What was found out, for the user to check.
    pub(crate) notes: Vec<String>,
    /// What may not be as the user expects.
    pub(crate) warnings: Vec<String>,
}

impl SourceFiles {
    /// Checks all that can be told without looking for the files.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let synthetic = self.0.iter().filter(|source| source.kind == Some(Kind::Synthetic)).count();
        if self.0.is_empty() || synthetic > 1 {
            let (key, value) = ("source", self.0.len().to_string() + " sources");
            let message = "it needs at least one, and at most one of kind synthetic";
            return Err(DataError::Value { key, value, message });
        }
        self.0.iter().try_for_each(SourceFile::check)
    }

    /// Finds and hashes the files of every source.
    pub(crate) fn resolve(self, seed: u64, locate: &Locate<'_>) -> Result<(Sources, Told), DataError> {
        let mut told = Told::default();
        let sources: Vec<ResolvedSource> = self
            .0
            .into_iter()
            .map(|source| source.resolve(seed, locate, &mut told))
            .collect::<Result<_, _>>()?;
        Ok((Sources(sources), told))
    }
}

impl SourceFile {
    fn check(&self) -> Result<(), DataError> {
        if self.kind != Some(Kind::Synthetic) {
            self.address()?;
        }
        match self.kind {
            Some(kind) => self.check_as(kind),
            None => self.binarise.map_or(Ok(()), |policy| policy.check()),
        }
    }

    /// Checks the settings of a source of `kind`.
    fn check_as(&self, kind: Kind) -> Result<(), DataError> {
        self.refuse_idle(kind)?;
        if let Some(policy) = &self.binarise {
            policy.check()?;
        }
        if let Some(world) = &self.world {
            world.check(self.pairs.unwrap_or_default())?;
        }
        if kind == Kind::Scores && self.binarise.is_none() {
            let message = "scores need a policy that makes labels of them, for example `{by: best_and_worst}` or \
                           `{by: mean, over: prompt}`";
            return Err(DataError::Value { key: "source.binarise", value: "not given".to_owned(), message });
        }
        if let Some(ratio) = self.min_score_ratio
            && !(ratio.is_finite() && ratio >= 1.0)
        {
            let (key, value) = ("source.min_score_ratio", ratio.to_string());
            return Err(DataError::Value { key, value, message: "it is a number from 1 on" });
        }
        Ok(())
    }

    fn address(&self) -> Result<&str, DataError> {
        self.path.as_deref().ok_or_else(|| {
            let message = "a file, a folder or an hf:// address is needed";
            DataError::Value { key: "source.path", value: "not given".to_owned(), message }
        })
    }

    fn resolve(self, seed: u64, locate: &Locate<'_>, told: &mut Told) -> Result<ResolvedSource, DataError> {
        let (kind, inputs) = self.find(locate, told)?;
        self.check_as(kind)?;
        let Self { columns, binarise, .. } = self;
        let reader = match kind {
            Kind::Hh => Reader::Hh,
            Kind::Shp => {
                let ratio = self.min_score_ratio.unwrap_or(2.0);
                Reader::Shp(Shp::new(ratio, self.max_pairs_per_post.or(5), seed))
            }
            Kind::Oasst => Reader::Oasst(Oasst {
                ranks: self.ranks.unwrap_or_default(),
                language: self.language.or("en".to_owned()),
                only_reviewed: self.only_reviewed.unwrap_or_default(),
                drop_deleted: self.drop_deleted.unwrap_or_default(),
                drop_synthetic: self.drop_synthetic.unwrap_or_default(),
                rating: self.rating,
            }),
            Kind::Pairs => Reader::Pairs(Pairs { columns }),
            Kind::Labels => Reader::Labels(Labels { columns }),
            Kind::Scores => Reader::Scores(Scores { columns }),
            Kind::Synthetic => Reader::Synthetic(Synthetic {
                pairs: self.pairs.unwrap_or_default(),
                seed,
                world: self.world.unwrap_or_default().resolve(),
            }),
        };
        let name = self.name.unwrap_or_else(|| kind.name().to_owned());
        told.warnings.extend(inputs.warnings.into_iter().map(|warning| format!("source {name}: {warning}")));
        Ok(ResolvedSource {
            name,
            reader,
            domain: self.domain,
            domains: self.domains.unwrap_or_default(),
            binarise,
            files: inputs.files,
            seed,
            rule: OnceLock::new(),
        })
    }

    /// The kind, sniffed where it is not given, and the files.
    fn find(&self, locate: &Locate<'_>, told: &mut Told) -> Result<(Kind, Inputs), DataError> {
        if self.kind == Some(Kind::Synthetic) {
            return Ok((Kind::Synthetic, Inputs::default()));
        }
        let address = self.address()?;
        let path =
            locate(address).map_err(|source| DataError::Locate { address: address.to_owned(), source })?;
        let inputs = files::find(address, &path, |folder| self.wants(folder))?;
        let kind = match (self.kind, inputs.files.first()) {
            (Some(kind), _) => kind,
            (None, Some(file)) => {
                let (kind, by) = sniff(&file.path, &self.columns)?;
                told.notes.push(format!(
                    "{address} is of kind {} (told from {}: {by})",
                    kind.name(),
                    file.name()
                ));
                kind
            }
            (None, None) => return Err(DataError::UnknownKind { file: path, found: "no file".to_owned() }),
        };
        Ok((kind, inputs))
    }

    /// Whether the files of a folder are read. HH's red-team transcripts are no preferences.
    fn wants(&self, folder: &str) -> bool {
        let only = self.only.is_none_or(|only| folder.starts_with(only.prefix()));
        let domain = match self.kind {
            Some(Kind::Hh | Kind::Shp) if !folder.is_empty() && self.domain.is_none() => {
                self.domains.as_ref().is_none_or(|domains| domains.iter().any(|domain| domain == folder))
            }
            _ => true,
        };
        only && domain && !folder.starts_with("red-team")
    }

    /// Refuses settings that the kind does not know.
    fn refuse_idle(&self, kind: Kind) -> Result<(), DataError> {
        let own = [Kind::Pairs, Kind::Labels, Kind::Scores];
        let domains = [Kind::Hh, Kind::Shp, Kind::Pairs, Kind::Labels, Kind::Scores];
        let scored =
            [Kind::Hh, Kind::Shp, Kind::Oasst, Kind::Pairs, Kind::Labels, Kind::Scores, Kind::Synthetic];
        let settings: [(&'static str, bool, &[Kind]); 15] = [
            (
                "path",
                self.path.is_some(),
                &[Kind::Hh, Kind::Shp, Kind::Oasst, Kind::Pairs, Kind::Labels, Kind::Scores],
            ),
            ("domains", self.domains.is_some(), &domains),
            ("only", self.only.is_some(), &[Kind::Hh]),
            ("min_score_ratio", self.min_score_ratio.is_some(), &[Kind::Shp]),
            ("max_pairs_per_post", self.max_pairs_per_post.is_given(), &[Kind::Shp]),
            ("ranks", self.ranks.is_some(), &[Kind::Oasst]),
            ("language", self.language.is_given(), &[Kind::Oasst]),
            ("only_reviewed", self.only_reviewed.is_some(), &[Kind::Oasst]),
            ("drop_deleted", self.drop_deleted.is_some(), &[Kind::Oasst]),
            ("drop_synthetic", self.drop_synthetic.is_some(), &[Kind::Oasst]),
            ("rating", self.rating.is_some(), &[Kind::Oasst]),
            ("columns", !self.columns.is_empty(), &own),
            ("binarise", self.binarise.is_some(), &scored),
            ("pairs", self.pairs.is_some(), &[Kind::Synthetic]),
            ("world", self.world.is_some(), &[Kind::Synthetic]),
        ];
        match settings.into_iter().find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            Some((setting, ..)) => Err(DataError::NoEffect { setting, kind: kind.name() }),
            None => Ok(()),
        }
    }
}

impl Only {
    fn prefix(self) -> &'static str {
        match self {
            Self::Helpful => "helpful",
            Self::Harmless => "harmless",
        }
    }
}

impl Kind {
    /// The kind as recipes name it.
    fn name(self) -> &'static str {
        match self {
            Self::Hh => "hh",
            Self::Shp => "shp",
            Self::Oasst => "oasst",
            Self::Pairs => "pairs",
            Self::Labels => "labels",
            Self::Scores => "scores",
            Self::Synthetic => "synthetic",
        }
    }
}
