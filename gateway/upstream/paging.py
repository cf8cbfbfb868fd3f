"""A list of an upstream, page after page from one address, and never too many. Knows not what is listed."""

from dataclasses import replace

from gateway.upstream import listing
from gateway.upstream.asking import Endpoint, Question, Questions
from gateway.upstream.http import Answer


class Pages:
    """The pages that begin with the question's path. For one task."""

    def __init__(self, questions: Questions, endpoint: Endpoint, question: Question) -> None:
        self._questions = questions
        self._endpoint = endpoint
        self._question = question
        self._path: str | None = question.path(endpoint.place.name(question.name))
        self._size_bytes = 0
        self.count = 0
        """Pages so far."""

    @property
    def is_over(self) -> bool:
        """Whether the upstream has named no further page."""
        return self._path is None

    async def turn(self) -> Answer | None:
        """The next page; None after the last one, or if there were as many as are taken.

        Raises `UpstreamError`: `UpstreamRefused` also if the page says that the next one is somewhere else.
        """
        path = self._path
        if path is None or self.count == listing.MAX_PAGES or self._size_bytes > listing.MAX_BYTES:
            return None
        question = replace(self._question, path=lambda _name: path, limit_bytes=listing.PAGE_BYTES)
        answer = await self._questions.ask(question, self._endpoint)
        self.count += 1
        self._size_bytes += len(answer.body)
        self._path = listing.next_page(answer.headers, base=self._endpoint.place.base, path=path)
        return answer
