"""From a request in OpenAI's words to requests in tokens: templates, grammars and limits of one model."""

from llmbook.inference.batching import Engine
from llmbook.inference.grammar import Grammar
from llmbook.inference.request import Request
from llmbook.inference.sampling import Sampling
from llmbook.inference.server.answers import Answer, Choice
from llmbook.inference.server.errors import ApiError
from llmbook.inference.server.schema import ChatRequest, CompletionRequest, TextRequest
from llmbook.text import Tokenizer


class Service:
    """What one model can be asked for. ``name`` is what clients call it; ``chat_template`` is the Jinja template of its
    conversations, if it has any."""

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        end_tokens: tuple[int, ...] = (),
        chat_template: str | None = None,
    ):
        self.engine, self.name = engine, name
        self.end_tokens, self.chat_template = end_tokens, chat_template

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the engine."""
        return self.engine.tokenizer

    def requests(self, asked: CompletionRequest | ChatRequest) -> tuple[list[Request], Answer]:
        """One request for each prompt, and the answer to be filled.

        Raises:
            ApiError: 400, what is asked does not fit the model: its context, its alphabet, its chat template.
        """
        sampling, chat = self._sampling(asked), isinstance(asked, ChatRequest)
        prompts = [self._conversation(asked)] if chat else asked.prompts
        requests, choices = [], []
        for i, prompt in enumerate(prompts):
            request = self._request(asked, prompt, sampling, first_row=i * asked.n_written)
            text = prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt)
            choices += [Choice(text, request.prompt_ids) for _ in range(asked.n_written)]
            requests.append(request)
        echo = not chat and asked.echo
        answer = Answer(
            chat=chat, model=self.name, tokenizer=self.tokenizer, choices=choices, echo=echo,
            logprobs=asked.n_likeliest is not None,
        )  # fmt: skip
        return requests, answer

    def _conversation(self, asked: ChatRequest) -> str:
        from llmbook.adaptation.chat import render  # what only chats need is loaded when one comes

        if self.chat_template is None:
            raise ApiError(400, f"{self.name!r} has no chat template; use /v1/completions", code="no_chat_template")
        try:
            known = getattr(self.tokenizer, "special_tokens_map", {})
            messages = [message.said() for message in asked.messages]
            return render(messages, self.chat_template, add_generation_prompt=True, **known)
        except ValueError as error:
            raise ApiError(400, str(error), param="messages") from None

    def _sampling(self, asked: TextRequest) -> Sampling:
        chooses_best = asked.n_written > asked.n
        scores_prompt = isinstance(asked, CompletionRequest) and asked.echo and asked.logprobs is not None
        only_prompt = asked.max_tokens == 0
        likeliest = asked.n_likeliest
        if likeliest is None and (chooses_best or only_prompt):
            likeliest = 0
        try:
            return Sampling(
                eos_token_id=self.end_tokens,
                stop=asked.stop,
                temperature=asked.temperature,
                top_p=None if asked.top_p == 1 else asked.top_p,
                top_k=asked.top_k,
                min_p=asked.min_p,
                min_new_tokens=asked.min_tokens,
                repetition_penalty=asked.repetition_penalty,
                presence_penalty=asked.presence_penalty,
                frequency_penalty=asked.frequency_penalty,
                logit_bias=asked.bias,
                grammar=self._grammar(asked),
                n=asked.n_written,
                seed=asked.seed,
                logprobs=likeliest,
                prompt_logprobs=scores_prompt or only_prompt,
            )
        except ValueError as error:
            raise ApiError(400, str(error), param=_named(error)) from None

    def _grammar(self, asked: TextRequest) -> Grammar | None:
        schema = asked.response_format.schema_wanted
        if schema is None:
            return None
        try:
            return Grammar.json_schema(schema, self.tokenizer)
        except ImportError as error:
            raise ApiError(501, str(error), param="response_format", code="no_grammars") from None
        except (ValueError, RecursionError) as error:
            raise ApiError(400, str(error), param="response_format") from None

    def _request(self, asked: TextRequest, prompt: str | list[int], sampling: Sampling, *, first_row: int) -> Request:
        param, called = ("messages", "conversation") if isinstance(asked, ChatRequest) else ("prompt", "prompt")
        longest = self.engine.longest
        try:
            ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
            wanted = asked.max_tokens
            if isinstance(asked, ChatRequest) and asked.max_completion_tokens is not None:
                wanted = asked.max_completion_tokens
            max_tokens = max(longest - len(ids), 1) if wanted is None else wanted
            if len(ids) + max_tokens > longest:
                raise ApiError(
                    400,
                    f"prompt and answer may have {longest} tokens together; the {called} has {len(ids)}, and up to "
                    f"{max_tokens} more are asked for",
                    param=param,
                    code="context_length_exceeded",
                )
            options = {"max_new_tokens": max_tokens, "seed": sampling.seed_of(first_row)}
            request = Request(prompt_ids=ids, sampling=Sampling.of(sampling, options))
            self.engine.check(request)
        except ValueError as error:  # an empty prompt, a character the tokenizer does not know
            raise ApiError(400, str(error), param=_named(error) or param) from None
        return request


def _named(error: ValueError) -> str | None:
    """The parameter that an error of ``Sampling`` begins with, in the client's words."""
    name = str(error).partition("=")[0].partition(" ")[0]
    name = {"min_new_tokens": "min_tokens"}.get(name, name)
    return name if name in TextRequest.model_fields else None
