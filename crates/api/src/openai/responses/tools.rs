//! `tools` and `tool_choice`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::mcp;
use crate::{
    ApiError, Limits, ServerChoice, ServerRule, ToolChoice,
    error::shorten,
    fields::{Fields, invalid},
    openai::chat::{check_name, check_schema, strict_names},
};

/// What the model may call.
#[derive(Debug, Clone, Default)]
pub(super) struct Offer {
    /// In the shape of chat completions, which templates know; those that may be called and no others.
    pub(super) tools: Vec<Value>,
    /// Names of those whose arguments are held to their schema.
    pub(super) strict: Vec<String>,
    pub(super) choice: ToolChoice,
    /// Namespace and name of the functions that the model knows by a longer name.
    pub(super) namespaces: HashMap<String, (String, String)>,
    /// MCP servers whose tools the server runs itself.
    pub(super) servers: Vec<ServerRule>,
    /// The tool of one of them that has to be called.
    pub(super) server_choice: Option<ServerChoice>,
    /// `tools` as it is told again in the answer.
    pub(super) echo: Vec<Value>,
}

/// The one name by which a model knows a function of a namespace.
pub(super) fn joined(namespace: &str, name: &str) -> String {
    format!("{namespace}__{name}")
}

/// Reads `tools` and `tool_choice`.
///
/// # Errors
/// A 400 with the path of what is at fault.
pub(super) fn read_offer(
    tools: &[Value],
    choice: Option<&Value>,
    limits: &Limits,
) -> Result<Offer, ApiError> {
    if tools.len() > limits.max_tools {
        let message = format!("At most {} tools are allowed, got {}.", limits.max_tools, tools.len());
        return Err(invalid("tools", &message));
    }
    let mut reader = Reader::default();
    for (index, tool) in tools.iter().enumerate() {
        reader.read(Fields::new(format!("tools[{index}]"), tool)?, limits)?;
    }
    let Reader { names, mut functions, namespaces, mut servers, echo } = reader;
    if functions.len() > limits.max_tools {
        let message = format!("At most {} functions are allowed, got {}.", limits.max_tools, functions.len());
        return Err(invalid("tools", &message));
    }
    let server_choice = read_server_choice(choice, &servers)?;
    let choice = choice.filter(|_| server_choice.is_none());
    let (choice, allowed) = read_choice(choice, &names, !servers.is_empty())?;
    if choice == ToolChoice::None {
        servers.clear();
    }
    let offered = |function: &Map<String, Value>| {
        let name = function["name"].as_str().unwrap_or_default();
        choice != ToolChoice::None && allowed.as_ref().is_none_or(|allowed| allowed.contains(name))
    };
    functions.retain(offered);
    let tools = functions.into_iter().map(|function| json!({"type": "function", "function": function}));
    let tools: Vec<Value> = tools.collect();
    let strict = strict_names(&tools)?;
    Ok(Offer { tools, strict, choice, namespaces, servers, server_choice, echo })
}

/// What was read of a list of tools.
#[derive(Default)]
struct Reader {
    names: HashSet<String>,
    functions: Vec<Map<String, Value>>,
    namespaces: HashMap<String, (String, String)>,
    servers: Vec<ServerRule>,
    echo: Vec<Value>,
}

impl Reader {
    fn read(&mut self, mut fields: Fields<'_>, limits: &Limits) -> Result<(), ApiError> {
        match fields.need_str("type")? {
            "function" => {
                let path = fields.at("name");
                let function = read_function(fields, limits)?;
                self.echo.push(echo(&function));
                self.add(&path, function)
            }
            "namespace" => self.read_namespace(fields, limits),
            "mcp" => self.read_server(fields),
            other => Err(unknown_type(&fields, other)),
        }
    }

    fn read_server(&mut self, fields: Fields<'_>) -> Result<(), ApiError> {
        let path = fields.at("server_label");
        let (rule, echo) = mcp::read_tool(fields)?;
        if self.servers.iter().any(|known| known.server == rule.server) {
            return Err(invalid(&path, "Labels of MCP servers must be unique."));
        }
        self.servers.push(rule);
        self.echo.push(echo);
        Ok(())
    }

    /// A group of functions. Templates have no word for one, so each function gets its name and description too.
    fn read_namespace(&mut self, mut fields: Fields<'_>, limits: &Limits) -> Result<(), ApiError> {
        let namespace = fields.need_str("name")?;
        check_name(&fields.at("name"), namespace)?;
        let description = fields.str("description")?;
        fields.need("tools")?;
        let path = fields.at("tools");
        let tools = fields.list("tools")?.unwrap_or_default();
        fields.done()?;
        let mut shown = Vec::with_capacity(tools.len());
        for (index, tool) in tools.iter().enumerate() {
            let mut fields = Fields::new(format!("{path}[{index}]"), tool)?;
            match fields.need_str("type")? {
                "function" => {}
                other => return Err(unknown_type(&fields, other)),
            }
            let path = fields.at("name");
            let mut function = read_function(fields, limits)?;
            shown.push(echo(&function));
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            let long = joined(namespace, &name);
            function.insert("name".into(), long.as_str().into());
            if let Some(group) = description {
                let own = function.get("description").and_then(Value::as_str).unwrap_or_default();
                function.insert("description".into(), format!("{group}\n{own}").trim_end().into());
            }
            self.namespaces.insert(long, (namespace.to_owned(), name));
            self.add(&path, function)?;
        }
        let echo =
            json!({"type": "namespace", "name": namespace, "description": description, "tools": shown});
        self.echo.push(echo);
        Ok(())
    }

    fn add(&mut self, path: &str, function: Map<String, Value>) -> Result<(), ApiError> {
        if !self.names.insert(function["name"].as_str().unwrap_or_default().to_owned()) {
            return Err(invalid(path, "Names of tools must be unique."));
        }
        self.functions.push(function);
        Ok(())
    }
}

fn unknown_type(fields: &Fields<'_>, kind: &str) -> ApiError {
    let message = format!(
        "Tools of type '{}' don't exist on this server. Give functions: {{\"type\": \"function\", \"name\": …, \
         \"parameters\": …}}.",
        shorten(kind, 60)
    );
    invalid(fields.path(), &message)
}

/// The `function` of a chat completion's tool. `strict` goes along where it is asked for, so that one place decides
/// about it for both endpoints.
fn read_function(mut fields: Fields<'_>, limits: &Limits) -> Result<Map<String, Value>, ApiError> {
    let mut function = Map::new();
    let name = fields.need_str("name")?;
    check_name(&fields.at("name"), name)?;
    function.insert("name".into(), name.into());
    if let Some(description) = fields.str("description")? {
        function.insert("description".into(), description.into());
    }
    if let Some(schema) = fields.get("parameters") {
        check_schema(&fields.at("parameters"), schema, limits)?;
        function.insert("parameters".into(), schema.clone());
    }
    if fields.bool("strict")? == Some(true) {
        function.insert("strict".into(), true.into());
    }
    fields
        .refuse("defer_loading", "There is no tool search here, so a deferred tool could never be used.")?;
    fields.refuse("async", "Calls are always waited for here. Leave it out.")?;
    if fields.list("allowed_callers")?.is_some_and(|callers| !callers.iter().any(|caller| caller == "direct"))
    {
        return Err(invalid(&fields.at("allowed_callers"), "Only 'direct' calls exist here."));
    }
    // What a tool gives back is for the client to check.
    fields.accept(&["output_schema"]);
    fields.done()?;
    Ok(function)
}

/// A tool as the official client parses it.
fn echo(function: &Map<String, Value>) -> Value {
    let field = |name: &str| function.get(name).cloned().unwrap_or_default();
    json!({
        "type": "function",
        "name": field("name"),
        "description": field("description"),
        "parameters": field("parameters"),
        "strict": function.contains_key("strict"),
    })
}

/// The choice, and the names that it is among if those aren't all. Whether the server can honour it is for the pipeline
/// to say.
/// A choice of the type `mcp`: a server of `tools`, and perhaps one of its tools.
fn read_server_choice(
    choice: Option<&Value>,
    servers: &[ServerRule],
) -> Result<Option<ServerChoice>, ApiError> {
    let Some(choice) = choice.filter(|choice| choice["type"] == "mcp") else { return Ok(None) };
    let mut fields = Fields::new("tool_choice".into(), choice)?;
    fields.accept(&["type"]);
    let server = fields.need_str("server_label")?.to_owned();
    let tool = fields.str("name")?.map(str::to_owned);
    if !servers.iter().any(|rule| rule.server == server) {
        let message = format!("There is no MCP server '{}' in `tools`.", shorten(&server, 60));
        return Err(invalid(&fields.at("server_label"), &message));
    }
    fields.done()?;
    Ok(Some(ServerChoice { server, tool }))
}

/// The choice, and the names of the only functions that may be called.
fn read_choice(
    choice: Option<&Value>,
    names: &HashSet<String>,
    has_servers: bool,
) -> Result<(ToolChoice, Option<HashSet<String>>), ApiError> {
    let Some(choice) = choice else { return Ok((ToolChoice::Auto, None)) };
    if let Value::String(word) = choice {
        return match word.as_str() {
            "auto" => Ok((ToolChoice::Auto, None)),
            "none" => Ok((ToolChoice::None, None)),
            "required" if names.is_empty() && !has_servers => {
                Err(invalid("tool_choice", "A required call needs `tools`."))
            }
            "required" => Ok((ToolChoice::Required, None)),
            other => {
                let shown = shorten(other, 60);
                let reason = format!("Input should be 'none', 'auto' or 'required', got '{shown}'.");
                Err(invalid("tool_choice", &reason))
            }
        };
    }
    let mut fields = Fields::new("tool_choice".into(), choice)?;
    match fields.need_str("type")? {
        "function" => {
            let name = named(&mut fields, names)?;
            fields.done()?;
            Ok((ToolChoice::Named(name), None))
        }
        "allowed_tools" => {
            fields.need("mode")?;
            let required = fields.one_of("mode", &["auto", "required"])? == Some("required");
            fields.need("tools")?;
            let list = fields.list("tools")?.unwrap_or_default();
            fields.done()?;
            let read = |(index, tool)| {
                let mut fields = Fields::new(format!("tool_choice.tools[{index}]"), tool)?;
                fields.need("type")?;
                fields.one_of("type", &["function"])?;
                let name = named(&mut fields, names)?;
                fields.done()?;
                Ok(name)
            };
            let allowed: HashSet<String> =
                list.iter().enumerate().map(read).collect::<Result<_, ApiError>>()?;
            if required && allowed.is_empty() {
                return Err(invalid("tool_choice.tools", "A required call needs a tool."));
            }
            let choice = if required { ToolChoice::Required } else { ToolChoice::Auto };
            Ok((choice, Some(allowed)))
        }
        other => {
            let message = format!(
                "A choice of type '{}' is not supported: functions and MCP tools are.",
                shorten(other, 60)
            );
            Err(invalid("tool_choice.type", &message))
        }
    }
}

fn named(fields: &mut Fields<'_>, names: &HashSet<String>) -> Result<String, ApiError> {
    let name = fields.need_str("name")?;
    if names.contains(name) {
        return Ok(name.to_owned());
    }
    let message = format!("There is no tool '{}' in `tools`.", shorten(name, 60));
    Err(invalid(&fields.at("name"), &message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> Value {
        json!({"type": "function", "name": name, "parameters": {"type": "object"}, "strict": name == "s"})
    }

    fn read(tools: &[Value], choice: Value) -> Result<(Vec<String>, ToolChoice), String> {
        let choice = Some(choice).filter(|choice| !choice.is_null());
        let offer = read_offer(tools, choice.as_ref(), &Limits::default())
            .map_err(|error| error.param.unwrap_or_default())?;
        let name = |tool: &Value| tool["function"]["name"].as_str().unwrap().to_owned();
        Ok((offer.tools.iter().map(name).collect(), offer.choice))
    }

    #[test]
    fn tools_take_the_shape_of_chat_completions() {
        let offer = read_offer(&[tool("f"), tool("s")], None, &Limits::default()).unwrap();
        let parameters = json!({"type": "object"});
        let function = json!({"name": "f", "parameters": parameters});
        assert_eq!(offer.tools[0], json!({"type": "function", "function": function}));
        assert_eq!(offer.tools[1]["function"]["strict"], true);
        let echo = json!({"type": "function", "name": "f", "description": null, "parameters": parameters, "strict": false});
        assert_eq!(offer.echo[0], echo);
    }

    #[test]
    fn functions_of_a_namespace_have_a_longer_name() {
        let group =
            json!({"type": "namespace", "name": "mail", "description": "Letters.", "tools": [tool("send")]});
        let offer = read_offer(&[tool("send"), group.clone()], None, &Limits::default()).unwrap();
        let function = &offer.tools[1]["function"];
        assert_eq!((&function["name"], &function["description"]), (&json!("mail__send"), &json!("Letters.")));
        assert_eq!(offer.namespaces["mail__send"], ("mail".to_owned(), "send".to_owned()));
        assert_eq!(
            (&offer.echo[1]["name"], &offer.echo[1]["tools"][0]["name"]),
            (&json!("mail"), &json!("send"))
        );
        let twice = read_offer(&[group.clone(), group], None, &Limits::default());
        assert_eq!(twice.unwrap_err().param.as_deref(), Some("tools[1].tools[0].name"));
    }

    #[test]
    fn choices_select_tools() {
        let tools = [tool("f"), tool("g")];
        let all = || vec!["f".to_owned(), "g".to_owned()];
        let allowed = |mode: &str| json!({"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "g"}]});
        assert_eq!(read(&tools, Value::Null), Ok((all(), ToolChoice::Auto)));
        assert_eq!(read(&tools, json!("required")), Ok((all(), ToolChoice::Required)));
        assert_eq!(read(&tools, json!("none")), Ok((vec![], ToolChoice::None)));
        let named = json!({"type": "function", "name": "g"});
        assert_eq!(read(&tools, named), Ok((all(), ToolChoice::Named("g".into()))));
        assert_eq!(read(&tools, allowed("auto")), Ok((vec!["g".into()], ToolChoice::Auto)));
        assert_eq!(read(&tools, allowed("required")), Ok((vec!["g".into()], ToolChoice::Required)));
    }

    #[test]
    fn faults_are_named_by_path() {
        let deferred = json!({"type": "function", "name": "f", "defer_loading": true});
        for (tools, choice, path) in [
            (vec![json!({"type": "web_search"})], Value::Null, "tools[0]"),
            (vec![json!({"type": "custom", "name": "x"})], Value::Null, "tools[0]"),
            (vec![json!({"type": "function", "name": "a b"})], Value::Null, "tools[0].name"),
            (vec![tool("f"), tool("f")], Value::Null, "tools[1].name"),
            (
                vec![json!({"type": "function", "name": "f", "function": {}})],
                Value::Null,
                "tools[0].function",
            ),
            (
                vec![json!({"type": "function", "name": "f", "parameters": 3})],
                Value::Null,
                "tools[0].parameters",
            ),
            (vec![deferred], Value::Null, "tools[0].defer_loading"),
            (vec![], json!("required"), "tool_choice"),
            (vec![], json!("any"), "tool_choice"),
            (vec![tool("f")], json!({"type": "function", "name": "g"}), "tool_choice.name"),
            (vec![tool("f")], json!({"type": "web_search_preview"}), "tool_choice.type"),
            (
                vec![tool("f")],
                json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}),
                "tool_choice.tools[0].name",
            ),
        ] {
            assert_eq!(read(&tools, choice.clone()), Err(path.to_owned()), "{tools:?} {choice}");
        }
    }
}
