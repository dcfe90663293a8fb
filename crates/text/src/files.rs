//! The files that say how a model reads and writes text.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use crate::TextError;

/// A model's tokenizer files, read but not yet interpreted; input for [`Tokenizer::from_files`](crate::Tokenizer)
/// and [`ChatTemplate::from_files`](crate::ChatTemplate).
#[derive(Debug, Clone)]
pub struct TextFiles {
    tokenizer_json: Cow<'static, [u8]>,
    config: TokenizerConfig,
    templates: BTreeMap<String, String>,
}

impl TextFiles {
    /// Reads `tokenizer.json`, and where they exist `tokenizer_config.json`, `special_tokens_map.json`,
    /// `chat_template.jinja`, `additional_chat_templates/*.jinja` and `chat_template.json`. As in transformers, Jinja
    /// files overrule the template in the configuration.
    ///
    /// # Errors
    /// If there is no `tokenizer.json`, or a file can't be read or isn't what its name says.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let tokenizer_json = read(folder.join("tokenizer.json"))?;
        let mut config = match read_optional(folder.join("tokenizer_config.json"))? {
            Some(json) => TokenizerConfig::parse("tokenizer_config.json", &json)?,
            None => TokenizerConfig::default(),
        };
        if let Some(json) = read_optional(folder.join("special_tokens_map.json"))? {
            config.fill_in(TokenizerConfig::parse("special_tokens_map.json", &json)?);
        }
        let mut templates = jinja_files(folder)?;
        if templates.is_empty() {
            templates = config.templates()?;
        }
        if templates.is_empty()
            && let Some(json) = read_optional(folder.join("chat_template.json"))?
        {
            templates = TokenizerConfig::parse("chat_template.json", &json)?.templates()?;
        }
        Ok(Self { tokenizer_json: tokenizer_json.into(), config, templates })
    }

    /// The same from memory: the contents of `tokenizer.json`, `tokenizer_config.json` and, if it isn't in there,
    /// the chat template.
    ///
    /// # Errors
    /// If `config` isn't a tokenizer configuration.
    pub fn from_bytes(
        tokenizer_json: impl Into<Cow<'static, [u8]>>,
        config: Option<&[u8]>,
        template: Option<&str>,
    ) -> Result<Self, TextError> {
        let config = match config {
            Some(json) => TokenizerConfig::parse("tokenizer_config.json", json)?,
            None => TokenizerConfig::default(),
        };
        let templates = match template {
            Some(source) => BTreeMap::from([(DEFAULT.to_owned(), source.to_owned())]),
            None => config.templates()?,
        };
        Ok(Self { tokenizer_json: tokenizer_json.into(), config, templates })
    }

    /// The text of one of the model's special tokens: `bos_token`, `eos_token`, `pad_token`, …
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.config.special_token(name)
    }

    pub(crate) fn tokenizer_json(&self) -> &[u8] {
        &self.tokenizer_json
    }

    pub(crate) fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// Chat templates by name; the main one is called [`DEFAULT`].
    pub(crate) fn templates(&self) -> &BTreeMap<String, String> {
        &self.templates
    }
}

/// Name of the template that is used unless there is a reason for another one.
pub(crate) const DEFAULT: &str = "default";

/// The part of `tokenizer_config.json` that matters here.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct TokenizerConfig {
    #[serde(default)]
    pub(crate) add_bos_token: Option<bool>,
    #[serde(default)]
    pub(crate) add_eos_token: Option<bool>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<String, AddedTokenEntry>,
    #[serde(default)]
    additional_special_tokens: Option<Vec<TokenName>>,
    #[serde(default)]
    chat_template: Option<TemplateEntry>,
    /// Everything else; the special tokens are in here.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct AddedTokenEntry {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum TokenName {
    Plain(String),
    Described { content: String },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum TemplateEntry {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Clone, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl TokenizerConfig {
    fn parse(file: &str, json: &[u8]) -> Result<Self, TextError> {
        serde_json::from_slice(json).map_err(|error| TextError::invalid(file, error))
    }

    /// Takes special tokens over from an older file where this one has none.
    fn fill_in(&mut self, older: Self) {
        for (name, value) in older.rest {
            let slot = self.rest.entry(name).or_insert(Value::Null);
            if slot.is_null() {
                *slot = value;
            }
        }
        if self.additional_special_tokens.is_none() {
            self.additional_special_tokens = older.additional_special_tokens;
        }
    }

    /// The configuration without the chat template, for those who ask what a tokenizer is like.
    pub(crate) fn describe(&self) -> Map<String, Value> {
        let flags = [("add_bos_token", self.add_bos_token), ("add_eos_token", self.add_eos_token)];
        let flags = flags.into_iter().filter_map(|(name, flag)| Some((name.to_owned(), flag?.into())));
        let mut described: Map<String, Value> =
            self.rest.iter().map(|(name, value)| (name.clone(), value.clone())).chain(flags).collect();
        let special: Vec<&str> = self.additional_special_tokens().collect();
        described.insert("additional_special_tokens".into(), special.into());
        let added = self.added_tokens_decoder.iter().map(|(id, token)| {
            let token = json!({"content": token.content, "special": token.special});
            (id.clone(), token)
        });
        described.insert("added_tokens_decoder".into(), Value::Object(added.collect()));
        described
    }

    /// Special tokens by their role (`bos_token`, …), as chat templates see them.
    pub(crate) fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        let roles = self.rest.iter().filter(|(role, _)| role.ends_with("_token"));
        roles.filter_map(|(role, value)| {
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((role.as_str(), text))
        })
    }

    pub(crate) fn special_token(&self, role: &str) -> Option<&str> {
        self.special_tokens().find(|(other, _)| *other == role).map(|(_, text)| text)
    }

    pub(crate) fn additional_special_tokens(&self) -> impl Iterator<Item = &str> {
        self.additional_special_tokens.iter().flatten().map(|name| match name {
            TokenName::Plain(content) | TokenName::Described { content } => content.as_str(),
        })
    }

    /// Added tokens with their ids, in the order of these.
    pub(crate) fn added_tokens(&self) -> impl Iterator<Item = (u32, AddedToken)> {
        let parsed =
            self.added_tokens_decoder.iter().filter_map(|(id, entry)| Some((id.parse().ok()?, entry)));
        let mut tokens: Vec<(u32, &AddedTokenEntry)> = parsed.collect();
        tokens.sort_by_key(|(id, _)| *id);
        tokens.into_iter().map(|(id, entry)| (id, entry.to_token()))
    }

    fn templates(&self) -> Result<BTreeMap<String, String>, TextError> {
        Ok(match &self.chat_template {
            None => BTreeMap::new(),
            Some(TemplateEntry::One(source)) => BTreeMap::from([(DEFAULT.to_owned(), source.clone())]),
            Some(TemplateEntry::Named(list)) => {
                list.iter().map(|entry| (entry.name.clone(), entry.template.clone())).collect()
            }
        })
    }
}

impl AddedTokenEntry {
    fn to_token(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized)
    }
}

fn jinja_files(folder: &Path) -> Result<BTreeMap<String, String>, TextError> {
    let mut templates = BTreeMap::new();
    if let Some(source) = read_optional(folder.join("chat_template.jinja"))? {
        templates.insert(DEFAULT.to_owned(), utf8("chat_template.jinja", source)?);
    }
    let Ok(entries) = fs::read_dir(folder.join("additional_chat_templates")) else { return Ok(templates) };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "jinja")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            let name = name.to_owned();
            templates.insert(name.clone(), utf8(&name, read(path)?)?);
        }
    }
    Ok(templates)
}

pub(crate) fn utf8(name: &str, bytes: Vec<u8>) -> Result<String, TextError> {
    String::from_utf8(bytes).map_err(|error| TextError::invalid(name, error))
}

pub(crate) fn read(path: PathBuf) -> Result<Vec<u8>, TextError> {
    fs::read(&path).map_err(|source| TextError::Read { path, source })
}

fn read_optional(path: PathBuf) -> Result<Option<Vec<u8>>, TextError> {
    match read(path) {
        Err(TextError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
