//! Whole texts: tokenize → check lengths → submit → rows → embeddings, scores.

use std::time::Instant;

use millrace_api::{ApiError, Limits, PoolingAnswer, PoolingCall, PoolingOptions, PoolingWork, Prompt};
use millrace_engine::{
    Matryoshka, PoolingInfo, PoolingTask, ResponseStream, ScoreScale, SubmitError, SubmitOptions,
};
use millrace_text::WholeText;
use millrace_types::{FinishReason, SamplingParams};

use super::{RETRY_DRAINING, Service, pairs::Question, prepare::text_error, refusal, sequence::failure};
use crate::{
    ServedModel,
    keys::Caller,
    metrics::{Outcome, SequenceTimer},
};

/// How much longer than all of a model's tokens at their longest a text may be that is to be tokenized: what is no
/// token (spaces, say) takes room too. Longer ones would be work for nothing.
const SLACK: usize = 64;

impl Service {
    /// Computes what is asked of a model that reads whole texts. Dropping the future aborts it; under each of `names`
    /// it can be cancelled with [`abort`](Self::abort).
    ///
    /// # Errors
    /// A 4xx if the request can't be served, a 503 if the queue is full or the server is stopping; a 500 if the model
    /// fails.
    pub async fn pool(&self, call: PoolingCall, names: Vec<String>) -> Result<PoolingAnswer, ApiError> {
        let arrival = Instant::now();
        let caller = Caller::current();
        let PoolingCall { options, work } = call;
        let submit = SubmitOptions {
            priority: options.priority,
            deadline: self.deadline(caller.time_limit(options.time_limit())),
            start_by: self.start_by(arrival, options.priority),
            ..SubmitOptions::default()
        };
        let guard = self.active.enter(names, options.model.as_deref(), caller.clone(), arrival);
        let model = self.model(options.model.as_deref(), submit.deadline).await?;
        let (prepared, finish) = {
            let (model, limits, bytes) = (model.clone(), self.limits.clone(), work.bytes());
            self.offload.run(bytes, move || prepare(&model, &options, work, &limits)).await?
        };
        let tokens = prepared.iter().map(|text| text.tokens.len()).sum();
        caller.take_prompt(tokens)?;
        let streams = queue(&model, prepared, &submit).inspect_err(|_| caller.return_prompt(tokens))?;
        guard.assign(&model, streams.iter().map(ResponseStream::id));
        let mut rows = Vec::with_capacity(streams.len());
        for stream in streams {
            rows.push(row(stream, SequenceTimer::new(model.metrics.clone(), arrival)).await?);
        }
        let (rows, labels) = finish.apply(rows);
        Ok(PoolingAnswer { model: model.name().to_owned(), rows, labels, prompt_tokens: tokens })
    }
}

/// Queues all texts of a request, or none.
fn queue(
    model: &ServedModel,
    texts: Vec<WholeText>,
    options: &SubmitOptions,
) -> Result<Vec<ResponseStream>, ApiError> {
    let mut places = model.engine.reserve(texts.len()).map_err(|error| refusal(&error))?;
    let submit = |text: WholeText| {
        let options = SubmitOptions { second: text.second, ..options.clone() };
        places.submit(text.tokens, SamplingParams::default(), options).map_err(|error| refusal(&error))
    };
    texts.into_iter().map(submit).collect()
}

/// Waits for the row of one text.
async fn row(mut stream: ResponseStream, mut timer: SequenceTimer) -> Result<Vec<f32>, ApiError> {
    let Some(output) = stream.recv().await else {
        timer.close(Outcome::Error);
        return Err(ApiError::internal(SubmitError::Dead.to_string()));
    };
    timer.step(&output);
    if let Some((outcome, error)) = failure(&output) {
        timer.close(outcome);
        return Err(error);
    }
    if output.finish.is_none_or(|finish| finish.reason == FinishReason::Abort) {
        timer.close(Outcome::Abort);
        return Err(ApiError::unavailable("The request was cancelled.", RETRY_DRAINING));
    }
    timer.close(Outcome::Stop);
    if output.pooled.iter().any(|x| !x.is_finite()) {
        return Err(ApiError::internal("The model gave a number that is not finite."));
    }
    Ok(output.pooled)
}

/// What is done with the rows of a request.
enum Finish {
    /// Cut, scale to length 1.
    Embed { dimensions: usize, normalize: bool },
    /// Scale scores.
    Scores { scale: ScoreScale, labels: Vec<String> },
    /// The first so many rows are queries, one for all of the others or one for each.
    Cosines { queries: usize },
}

fn prepare(
    model: &ServedModel,
    options: &PoolingOptions,
    work: PoolingWork,
    limits: &Limits,
) -> Result<(Vec<WholeText>, Finish), ApiError> {
    let Some(info) = &model.engine.info().pooling else { return Err(unable(model, &work)) };
    let reader = Reader { model, options, limits, most: reading_limit(model, options)? };
    let singles = |prompts: Vec<Prompt>| -> Result<Vec<WholeText>, ApiError> {
        prompts.into_iter().map(|prompt| reader.prompt(prompt)).collect()
    };
    let raw = |scale: bool, own: ScoreScale| if scale { own } else { ScoreScale::Raw };
    match (work, &info.task) {
        (
            PoolingWork::Embed { prompts, dimensions, normalize },
            PoolingTask::Embed { normalize: own, matryoshka },
        ) => {
            let dimensions =
                dimensions.map_or(Ok(info.dim), |wanted| shortened(model, info, matryoshka, wanted))?;
            let normalize = normalize.unwrap_or(*own);
            Ok((singles(prompts)?, Finish::Embed { dimensions, normalize }))
        }
        (PoolingWork::Pool { prompts }, PoolingTask::Embed { normalize, .. }) => {
            Ok((singles(prompts)?, Finish::Embed { dimensions: info.dim, normalize: *normalize }))
        }
        (PoolingWork::Classify { prompts, scale }, PoolingTask::Classify(labels)) => {
            let finish = Finish::Scores { scale: raw(scale, labels.scale), labels: labels.names.clone() };
            Ok((singles(prompts)?, finish))
        }
        (PoolingWork::Pool { prompts }, PoolingTask::Classify(labels)) => {
            Ok((singles(prompts)?, Finish::Scores { scale: labels.scale, labels: labels.names.clone() }))
        }
        (PoolingWork::Score { instruction: Some(_), .. }, _) if model.parts.pair_template.is_none() => {
            let message =
                format!("The model `{}` reads no instruction. Leave `instruction` out.", model.name());
            Err(ApiError::invalid("instruction", message))
        }
        (PoolingWork::Score { queries, documents, .. }, PoolingTask::Embed { .. }) => {
            let count = queries.len();
            let texts = queries.into_iter().chain(documents).map(Prompt::Text);
            Ok((singles(texts.collect())?, Finish::Cosines { queries: count }))
        }
        (PoolingWork::Score { queries, documents, instruction, scale }, PoolingTask::Classify(labels))
            if labels.names.len() == 1 =>
        {
            let query = |at: usize| &queries[if queries.len() == 1 { 0 } else { at }];
            let pairs = documents.iter().enumerate();
            let pairs = pairs.map(|(at, document)| reader.pair(query(at), document, instruction.as_deref()));
            let finish = Finish::Scores { scale: raw(scale, labels.scale), labels: Vec::new() };
            Ok((pairs.collect::<Result<_, _>>()?, finish))
        }
        (work, _) => Err(unable(model, &work)),
    }
}

/// To how many tokens texts are cut, if they are.
fn reading_limit(model: &ServedModel, options: &PoolingOptions) -> Result<Option<usize>, ApiError> {
    let max_model_len = model.engine.info().max_model_len;
    match options.truncate.map(usize::try_from) {
        None => Ok(None),
        // −1.
        Some(Err(_)) => Ok(Some(max_model_len)),
        Some(Ok(most)) if most <= max_model_len => Ok(Some(most)),
        Some(Ok(most)) => {
            let message = format!(
                "truncate_prompt_tokens is {most}, more than the {max_model_len} tokens that this model reads; choose \
                 a smaller number, or -1 for as many as it reads."
            );
            Err(ApiError::invalid("truncate_prompt_tokens", message))
        }
    }
}

/// Reads the texts of one request.
struct Reader<'a> {
    model: &'a ServedModel,
    options: &'a PoolingOptions,
    limits: &'a Limits,
    /// Texts are cut to so many tokens.
    most: Option<usize>,
}

impl Reader<'_> {
    fn prompt(&self, prompt: Prompt) -> Result<WholeText, ApiError> {
        match prompt {
            Prompt::Text(text) => self.texts(&text, None),
            Prompt::Tokens(mut tokens) => {
                tokens.truncate(self.most.unwrap_or(usize::MAX));
                self.checked(WholeText { tokens, second: None })
            }
            Prompt::Gap { .. } => {
                Err(ApiError::bad_request("A text with a gap is not whole. Leave the gap out."))
            }
        }
    }

    fn pair(&self, query: &str, document: &str, instruction: Option<&str>) -> Result<WholeText, ApiError> {
        let Some(template) = &self.model.parts.pair_template else {
            return self.texts(query, Some(document));
        };
        let document = self.readable(document)?;
        let question = Question { template, instruction, query: self.readable(query)? };
        let tokens = question.tokens(&self.model.parts.tokenizer, document, self.most)?;
        self.checked(WholeText { tokens, second: None })
    }

    fn texts(&self, first: &str, second: Option<&str>) -> Result<WholeText, ApiError> {
        let (first, second) = (self.readable(first)?, second.map(|text| self.readable(text)).transpose()?);
        let tokenizer = &self.model.parts.tokenizer;
        let whole = tokenizer.encode_whole(first, second, self.options.add_special_tokens, self.most);
        self.checked(whole.map_err(|error| text_error(&error))?)
    }

    /// As much of a text as can matter: what is cut off needn't be read. Refused if nothing may be cut off.
    fn readable<'t>(&self, text: &'t str) -> Result<&'t str, ApiError> {
        let max_model_len = self.model.engine.info().max_model_len;
        let bound = self.most.unwrap_or(max_model_len);
        let token = self.model.parts.tokenizer.max_token_bytes();
        let bound = bound.saturating_mul(token).saturating_mul(SLACK);
        if self.most.is_none() && text.len() > bound {
            return Err(too_long(max_model_len, &format!("a text of {} bytes", text.len())));
        }
        Ok(start_of(text, bound))
    }

    fn checked(&self, text: WholeText) -> Result<WholeText, ApiError> {
        let max_model_len = self.model.engine.info().max_model_len;
        if text.tokens.is_empty() {
            return Err(ApiError::invalid("input", "A text without any token can't be read."));
        }
        if text.tokens.len() > max_model_len {
            return Err(too_long(max_model_len, &format!("{} tokens", text.tokens.len())));
        }
        self.model.limits(self.limits).check_tokens("input", &text.tokens)?;
        Ok(text)
    }
}

/// At most so many bytes of a text.
fn start_of(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn too_long(max_model_len: usize, found: &str) -> ApiError {
    let message = format!(
        "This model's maximum context length is {max_model_len} tokens. However, you requested {found} in the input. \
         Please reduce the length of the input, or cut it with `truncate_prompt_tokens`."
    );
    ApiError::invalid("input", message)
}

/// The model can't do this work.
fn unable(model: &ServedModel, work: &PoolingWork) -> ApiError {
    let api = match work {
        PoolingWork::Embed { .. } => "Embeddings",
        PoolingWork::Classify { .. } => "Classification",
        PoolingWork::Pool { .. } => "Pooling",
        PoolingWork::Score { .. } => "Score",
    };
    ApiError::invalid("model", format!("The model `{}` does not support the {api} API.", model.name()))
}

/// How many elements an embedding is cut to.
fn shortened(
    model: &ServedModel,
    info: &PoolingInfo,
    matryoshka: &Matryoshka,
    wanted: i64,
) -> Result<usize, ApiError> {
    let invalid = |message: String| Err(ApiError::invalid("dimensions", message));
    let dimensions = usize::try_from(wanted).unwrap_or(0);
    if dimensions == 0 || dimensions > info.dim {
        return invalid(format!(
            "dimensions is {wanted}; this model's embeddings have 1 to {} elements.",
            info.dim
        ));
    }
    match matryoshka {
        _ if dimensions == info.dim => Ok(dimensions),
        Matryoshka::Any => Ok(dimensions),
        Matryoshka::Of(sizes) if sizes.contains(&dimensions) => Ok(dimensions),
        Matryoshka::Of(sizes) => {
            invalid(format!("dimensions is {wanted}; the model `{}` can be cut to {sizes:?}.", model.name()))
        }
        Matryoshka::No => invalid(format!(
            "The model `{}` does not support matryoshka representation, changing output dimensions will lead to poor \
             results. Leave `dimensions` out.",
            model.name()
        )),
    }
}

impl Finish {
    /// Makes results of rows; names their elements, if those have names.
    fn apply(self, mut rows: Vec<Vec<f32>>) -> (Vec<Vec<f32>>, Vec<String>) {
        match self {
            Self::Embed { dimensions, normalize } => {
                for row in &mut rows {
                    row.truncate(dimensions);
                    if normalize {
                        scale_to_one(row);
                    }
                }
                (rows, Vec::new())
            }
            Self::Scores { scale, labels } => {
                rows.iter_mut().for_each(|row| scale.apply(row));
                (rows, labels)
            }
            Self::Cosines { queries } => {
                rows.iter_mut().for_each(|row| scale_to_one(row));
                let documents = rows.split_off(queries);
                let query = |at: usize| &rows[if queries == 1 { 0 } else { at }];
                let cosine = |(at, document): (usize, &Vec<f32>)| vec![dot(query(at), document)];
                (documents.iter().enumerate().map(cosine).collect(), Vec::new())
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// A row of zeros stays.
fn scale_to_one(row: &mut [f32]) {
    let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((start_of("aéb", 2), start_of("aéb", 3), start_of("aéb", 9)), ("a", "aé", "aéb"));
    }

    #[test]
    fn rows_become_results() {
        let rows = || vec![vec![3.0, 4.0], vec![0.0, 2.0], vec![-6.0, -8.0]];
        let (cut, _) = Finish::Embed { dimensions: 1, normalize: false }.apply(rows());
        assert_eq!(cut, [[3.0], [0.0], [-6.0]]);
        let (cut, _) = Finish::Embed { dimensions: 1, normalize: true }.apply(rows());
        assert_eq!(cut, [[1.0], [0.0], [-1.0]]);
        let (cosines, _) = Finish::Cosines { queries: 1 }.apply(rows());
        assert_eq!(cosines, [[0.8], [-1.0]]);
        let pairs = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![5.0, 0.0], vec![1.0, 0.0]];
        let (cosines, _) = Finish::Cosines { queries: 2 }.apply(pairs);
        assert_eq!(cosines, [[1.0], [0.0]]);
    }
}
